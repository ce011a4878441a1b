"""Single words that ConText turns on: the classes of words in cues, and words at which a scope ends.

Read next: cues.py, for the phrases; scopes.py, which uses both.
"""

import re


def word_set(text: str) -> frozenset[str]:
    """The words of `text`."""
    return frozenset(text.split())


WORD_CLASSES: dict[str, frozenset[str]] = {
    "SUBJECT": word_set("he she they patient pt patients who i you"),
    "PRONOUN": word_set("he she they we i you"),
    "POSSESSIVE": word_set("his her their the a an my your"),
    "BE": word_set("is are was were be been being"),
    "HAVE": word_set("has have had"),
    "MAY": word_set("may might could can"),
    "RELATIVE": word_set("""
        mother father mom dad mum parent parents brother brothers sister sisters sibling siblings twin son sons daughter
        daughters child children aunt aunts uncle uncles cousin cousins niece nephew grandmother grandfather grandma
        grandpa grandparent grandparents grandson granddaughter wife husband spouse partner girlfriend boyfriend
        relative relatives roommate coworker fob mgm mgf pgm pgf"""),
    "SIDE": word_set("maternal paternal older younger elder late biological first-degree half twin other"),
    "NEWLY": word_set("recently just newly also"),
    "EARLIER": word_set("prior previous last first earlier past"),
    "EVIDENCE": word_set("""
        evidence suggestion indication complaint complaints sign episodes episode bouts presence feeling feelings
        sensation thoughts thought ideation diagnosis finding findings features stigmata trace focus foci area areas
        mention record documentation use abuse intake any one kind type symptom likelihood"""),
    "TEST": word_set("workup work-up evaluation screening screen test testing swab culture cultures scan imaging"),
    "REMOVAL": word_set("""
        appendectomy cholecystectomy hysterectomy oophorectomy mastectomy lumpectomy prostatectomy tonsillectomy
        nephrectomy colectomy splenectomy thyroidectomy excision resection"""),
    "DURATION": word_set("""
        day days week weeks month months year years hour hours long longstanding long-standing lifelong"""),
    "SHOW": word_set("""
        show shows reveal reveals demonstrate demonstrates report endorse have exhibit develop suggest indicate
        appreciate see note notice feel experience admit describe identify find observe detect display recall"""),
    "SHOWN": word_set("""
        shown seen noted identified appreciated detected demonstrated visualized visualised present evident found
        observed palpated palpable heard elicited reported apparent visible established suspected proven confirmed
        indicated likely"""),
    "ING": word_set("having experiencing reporting endorsing complaining noticing feeling showing suffering"),
    "EXPERIENCED": word_set("""
        experienced noticed noted reported endorsed developed felt seen demonstrated revealed shown"""),
    "ISSUE": word_set("""
        issue issues problem problems complication complications concern concerns change changes increase decrease
        worsening improvement relief exacerbation exacerbations flare flares difficulties progression benefit recurrence
        response treatment hospitalizations hospitalization admissions admission visits medication medications therapy
        insight need disappearance resolution remission reduction"""),
    "OF": word_set("of in with from for to on regarding"),
    "SCALE": word_set("significant interval further acute major other new recent much real appreciable notable any"),
    "CAUSE": word_set("cause causes etiology etiologies source sources reason reasons explanation contributor"),
    "STOP": word_set(". , ; ) ! ? ¦ [ ( /"),
}  # fmt: skip

# Verbs of advice and plans.
IMPERATIVES = word_set("""
    take use call return go seek stop apply give come contact please consider start proceed follow refer increase
    decrease continue add send order obtain check try resume hold discontinue schedule see avoid be have""")
# A comma and one of these begin the main clause after "if …"; so does "we will" without a comma.
MAIN_CLAUSE = IMPERATIVES | word_set("he she they we i you then will would can there this but because")
# Words with which a new finding, not the next item of a denied list, begins after a comma.
POSITIVE = word_set("""
    mild moderate severe slight some positive trace occasional intermittent chronic persistent worsening increased
    decreased diffuse scattered marked significant current former with + 1+ 2+ 3+ 4+ grade bilateral now status his
    her their my the""")
FINITE_VERBS = word_set("""
    is are was were has have had does did do will would can could should may might continues continue remains remain
    appears appear states takes uses works lives feels felt looks seems started began developed presents presented
    reports endorses denies complains notes shows reveals demonstrates improved worsened increased came went takes
    wants needs needed gets got says said thinks believes""")
SUBORDINATORS = word_set("that which when who since if as because where")
PREPOSITIONS = word_set(
    "in on for to with after from due because at by during while when that which who and is was are"
)
# Words that introduce a noun phrase or clause which a denial of the noun before does not reach: "no response of
# …"; and possessives, as what is somebody's is there: "denies missing her …".
RELATIONS = word_set("""
    of for in to from into with on at about regarding concerning toward towards against during after before since over
    under through per between within among by via his her their my your""")
RELATIONAL_NOUNS = word_set(
    "shortness loss lack blood pain swelling difficulty trouble change changes problems history"
)
# As RELATIONS, with a verb of their own, and verbs whose object is there: "nothing helped the headache".
CLAUSE_WORDS = word_set("""
    that which who whom whose because when while until once pending helped helps help relieved relieves relieve eased
    eases alleviated alleviates touched cured""")
# After these a comma ends a denial unless "or" follows: "no acute distress, jaundiced".
GENERAL_STATES = word_set("distress")
# Predicates without a verb, after a comma: "no wheezing, COPD stable".
PREDICATES = word_set("""
    stable improving resolving worsening unchanged persists persisting compensated decompensated controlled
    uncontrolled recurred ongoing progressing""")
SHOWN = word_set("present noted seen only")  # as PREDICATES, but only for the first of a denied list
BORDERS = word_set("- – — ¦ []")  # marks between findings: " - ", a table's cells, check boxes
# What may stand before the cue in evidence that contains it: "[there is no evidence of pneumonia]".
FILLERS = word_set("""
    the a an there is are was were patient pt he she they her his their has have had of with any this that mr ms mrs
    also does did do specifically currently again and - • * : , ( reports states ros""")

# Children are relatives where the sentence says whose: "her son", "the patient's child"; else the child is the patient.
CHILDREN, BABIES = word_set("son daughter"), word_set("child baby infant newborn toddler neonate")
CARERS = word_set("mother father mom dad mum parent parents grandmother grandfather grandma grandpa guardian caregiver")
OWNERS = word_set("his her their my your 's")
MOTHERS = word_set("mother mom mum")
# What is said of a patient, not of someone's mother, before the noun: "postpartum mother", "single mom".
PATIENT_ADJECTIVES = word_set("""
    postpartum post-partum breastfeeding breast-feeding lactating nursing pregnant gravid expectant expecting laboring
    labouring primiparous multiparous nulliparous primigravid new first-time single stay-at-home working unmarried
    divorced widowed teen teenage teenaged adolescent homeless para post""")
# These say nothing, and may stand between: "32 yo Hispanic mother", "postpartum day 3 mother".
NEUTRAL_ADJECTIVES = word_set("""
    african african-american american black white caucasian hispanic latina asian indian female male woman healthy
    otherwise previously young busy married recently exclusively currently now day days week weeks first second third
    and""") | frozenset(map(str, range(1, 43)))
SOURCES = word_set("by from per")  # before a relative who tells or accompanies

# "Not" and "never" before these, or before adverbs and these, say how a disease is kept: "never yet treated asthma".
KEPT = word_set("""
    controlled treated resolved resolving healed healing managed compliant adherent corrected optimized optimised
    improved improving responding responsive tolerated repaired addressed evaluated monitored medicated stabilized
    stabilised compensated cured recovered cleared screened investigated worked understood followed staged drained
    removed suppressed eradicated remitted explained characterized characterised optimal stable dependent new mild
    severe serious simple typical unusual uncomplicated unexpected diagnosed""")
# After one of these adverbs any participle does: "not fully anticoagulated atrial fibrillation".
MEASURES = word_set("""
    well adequately inadequately sufficiently properly optimally suboptimally fully completely entirely ideally
    perfectly effectively satisfactorily appropriately tightly consistently reliably regularly successfully""")
ADVERBS = word_set("""
    well yet so very quite always ever even as too all that been being be much
    / or and rate rhythm insulin medication diet""")

# Nouns whose absence, before or after the name of a disease, is not the absence of that disease.
PROCESSES = WORD_CLASSES["ISSUE"] | word_set("""
    attack attacks crisis crises med meds drugs inhaler inhalers supplies regimen surgery follow-up followup plan
    protocol protocols""")

# Words that say that a finding began at the time that follows: "diagnosed five years ago".
ONSET = word_set("""
    diagnosed began begun begin started start starting since onset ongoing noticed first developed worsening worse
    injured injury for presented presents""")

# Conditions that last: "history of" one does not say that it is over. The conditions of CMS's Chronic Conditions Data
# Warehouse (ccwdata.org) that are not events, some more of their kind, and the abbreviations of clinical notes.
_CHRONIC_WORDS = word_set(r"""
    diabet\w* dm dm1 dm2 dmii t1dm t2dm niddm iddm hypertensi\w* htn hypercholesterol\w* hyperlipid\w* dyslipid\w* hld
    copd emphysema asthma\w* chf hfref hfpef cad ckd esrd pvd pad afib a-fib arthrit\w* osteoarthritis oa ra gout
    osteoporosis osteopenia fibromyalgia lupus sle psoria\w* hypothyroid\w* hyperthyroid\w* hashimoto\w* gerd
    reflux crohn\w* cirrhosis hiv aids migraines? epilep\w* parkinson\w* dementia alzheimer\w* depress\w* anxiety
    bipolar schizo\w* ptsd adhd autis\w* obes\w* osa glaucoma bph anemia thalassemia neuropath\w* scoliosis stenosis
    endometriosis pcos cardiomyopathy insomnia allerg\w* rhinitis celiac degenerative murmur regurgitation polycystic
    cholesterol chronic""")  # fmt: skip
_CHRONIC_PHRASES = (
    "atrial fibrillation|heart failure|heart disease|artery disease|vascular disease|kidney disease|lung disease|"
    "obstructive pulmonary|renal insufficiency|renal failure|multiple sclerosis|cystic fibrosis|cerebral palsy|"
    "muscular dystrophy|sickle cell|ulcerative colitis|sleep apnea|macular degeneration|hearing loss|down syndrome|"
    "irritable bowel|blood pressure|thyroid disease"
)
CHRONIC = re.compile(rf"\b(?:{'|'.join(sorted(_CHRONIC_WORDS))}|{_CHRONIC_PHRASES})\b", re.IGNORECASE)
