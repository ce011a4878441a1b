"""The phrases of cues.py that deny, and those that only seem to. Sources and notation: phrases.py.

Read next: cues.py, for what each list does.
"""

# Before the finding; "denies" and "negative for" open lists.
DENIED_BEFORE = """
    denies | denied | deny | denying | denial of | does deny | denies that there BE | denies that SUBJECT HAVE |
    denied that SUBJECT HAVE | denies SUBJECT HAVE | never been diagnosed with | not been diagnosed with |
    declines any | negative for | neg for | BE negative for | tested negative for | tests negative for |
    negatives : | -x ve for | - ve for | negative TEST for | no c / o | without c / o | negative : | BE denying |
    ruled out for | BE ruled out for | HAVE been ruled out for | HAVE ruled out for | unremarkable for |
    would not admit to | none of | neither | nor | ( - ) | [ - ] | -x | ( neg ) | doubt | doubts |
    low suspicion for | low suspicion of | low concern for | unlikely to be | unlikely to have |
    low probability of | low likelihood of
"""
# Before the finding; determiners and negated verbs, which seldom reach over a comma.
DENIED_DETERMINERS = """
    no | nil | not any | absence of | absent | lack of | lacks | lacking | free of | free from | BE free of |
    clear of | devoid of | fails to SHOW | failed to SHOW | never any | never had | never HAVE | never developed |
    cannot SHOW | not SHOW | not ING | not complain of | not complaining of | not HAVE | not had | not EXPERIENCED |
    not been ING | no longer any | not a candidate for | not consistent with | not compatible with |
    not suggestive of | not concerning for | not suspicious for | not worrisome for | not indicative of |
    not associated with | not related to | not appear related to | not appear to be related to | not due to |
    not known to have | not SHOWN to have | BE not SHOWN to have | not SHOWN to be | not currently HAVE |
    not actually HAVE | not really HAVE | not ever HAVE | not appear to have | not appear to be | not seem to have |
    not in | not think SUBJECT HAVE | not think this BE | not think it BE | not believe SUBJECT HAVE |
    not believe this BE | not meet criteria for | not drink | not use | not suspect | not suffer from |
    never diagnosed with | never BE diagnosed with | not diagnosed with | not suspected to have | rules out |
    ruled out | excludes | excluded | argues against | argue against | inconsistent with | rather than | no known |
    zero
"""
# Before the finding; "without edema and gout" seldom means without gout.
DENIED_WITHOUT = "without | w / o"
# Before the finding, for a few words: "is not depressed", "negative Murphy sign".
DENIED_ADJECTIVES = """
    unlikely | never | not a | not an | negative | neg | denies taking | denies using | denies use of |
    denies requiring | denies needing
"""
# Nouns that pass a denial on to what their preposition introduces. After other nouns it ends there: in "no evidence of
# progression of lung cancer" the progression is denied, in "no hospitalizations for asthma" the hospitalizations.
PASSING_NOUNS = "EVIDENCE of | EVIDENCE for | EVIDENCE to suggest | EVIDENCE that suggest"
# After the finding, as that of someone who was asked, or in a table, a check list, or brackets.
DENIED_ANSWERS = """
    denied STOP | BE denied | HAVE been denied | denied by | denies STOP | : no STOP | : none STOP |
    : negative STOP | : neg STOP | : denies STOP | : denied STOP | : nonreactive STOP | : non-reactive STOP |
    : not detected STOP | : absent STOP | : never STOP | : not SHOWN | : none SHOWN | : n STOP | - no STOP |
    - none STOP | - denies STOP | - denied STOP | - negative STOP | - absent STOP | – no STOP | – none STOP |
    – denies STOP | – denied STOP | – negative STOP | ( denies ) | ( denied ) | ( no ) | ( none ) | ( negative ) |
    ( neg ) | ( absent ) | ( - ) STOP | denied it | denies it | and denied it | and denies it | and denied this |
    and denies this | and denied these | and denies these | which PRONOUN denies | which PRONOUN denied |
    which PRONOUN has denied | ¦ no STOP | ¦ none STOP | ¦ negative STOP | ¦ neg STOP | ¦ absent STOP |
    ¦ denies STOP | ¦ denied STOP | ? no STOP | ? none STOP | ? denies STOP | ? denied STOP | : yes [] no [x] |
    : [] yes [x] no | yes [] no [x] | [] yes [x] no | : y [] n [x] | : [] y [x] n | y [] n [x] | [] y [x] n
"""
# After its subject: the noun phrase before it, or several that "and" or "or" joins.
DENIED_AFTER = """
    BE ruled out | ruled out STOP | ruled out by | ruled out with | ruled out on | ruled out via |
    HAVE been ruled out | HAVE been excluded | BE excluded | excluded STOP | excluded by | excluded on |
    can be ruled out | can be excluded | BE not SHOWN | not SHOWN STOP | not SHOWN on | not SHOWN in |
    not SHOWN at | not SHOWN by | not SHOWN | HAVE not been SHOWN | can not be SHOWN | could not be SHOWN |
    BE never SHOWN | never SHOWN | BE absent | absent STOP | BE unlikely | unlikely STOP | unlikely given |
    seems unlikely | appears unlikely | felt to be unlikely | BE considered unlikely | BE thought unlikely |
    BE felt to be unlikely | highly unlikely | very unlikely | less likely | BE doubtful | doubtful STOP |
    BE doubted | BE negative | BE all negative | HAVE been negative | came back negative | come back negative |
    returned negative | tested negative | tests negative STOP | BE out of the question | not occur | not develop |
    none STOP | , which BE negative | , which came back negative | , which BE ruled out
"""
DENIED_AFTER_WORD = (
    "nonreactive STOP | non-reactive STOP | negative STOP | neg STOP | free STOP | negative today | negative x"
)

# Words that look like cues.
PSEUDO_CUES = """
    in the past DURATION | in the past few | in the past several | in the past couple | in the past two |
    in the past three | in the past 2 | in the past 3 | in the past 6 | in the past 12 | : yes [x] no [] |
    yes [x] no [] | : [x] yes [] no | [x] yes [] no | : y [x] n [] | y [x] n [] | ? yes | screening : positive |
    screening positive | screening BE positive | screen : positive | screen positive | screen BE positive |
    never treated for | never been treated for | not treated for | not been treated for | no worsening |
    no new or worsening | denies worsening | denies any worsening | denies new or worsening | without ISSUE |
    no specific diagnosis | no diagnosis | consistent with known | consistent with his known |
    consistent with her known | consistent with the patient 's | as well as | concerned that his |
    concerned that her | concerned about his | concerned about her | concerned about the | concerned about their |
    worried about his | worried about her | possible that some of | suspect his | suspect her | suspect their |
    possible CAUSE of | likely CAUSE of | most likely CAUSE of | probable CAUSE of | suspected CAUSE of POSSESSIVE |
    not previously diagnosed | not previously known | not previously recognized | not at | not under |
    not in control | migraine prophylaxis | migraines prophylaxis | headache prophylaxis | gout prophylaxis |
    prophylaxis for migraine | prophylaxis of migraine | not in good control | not in optimal control |
    not in adequate control | not in remission | non stemi | ever been diagnosed with | being diagnosed with |
    ever diagnosed with | including but not limited to | include but not limited to |
    include but are not limited to | no ISSUE STOP | no further | not only | no doubt | without doubt |
    without a doubt | without question | no question | without difficulty | no difficulty | without contrast |
    w / o contrast | not necessarily | no one | not certain if | not certain whether | not sure if |
    not sure whether | unsure if | no matter | no later | not able | not cause | no more than | not just |
    not simply | not sure | not taking | not using | not on | not improving | not getting | not going |
    not checking | not monitoring | not interested | not responding | gram negative | er negative | pr negative |
    her2 negative | rh negative | triple negative | culture negative | smear negative | node negative |
    receptor negative | coagulase negative | her-2 negative | / neu negative | false negative | false negatives |
    negative pressure | negative thoughts | negative symptoms | negative margins | negative feedback |
    negative affect | negative self | history : | history of present illness | history of the present illness |
    history of present illnesses | history of presenting illness | history of presenting complaint | hpi |
    DURATION history of | DURATION 's history of | chronic history of | ongoing history of | active history of |
    current history of | history BE | history and physical | history taking | past medical history | past history |
    medical history | social history | surgical history | past surgical history | history significant for |
    medical history significant for | history notable for | history includes | family practice | family medicine |
    family doctor | family physician | family meeting | family planning | family at bedside | prior to |
    prior treatment | previous treatment | prior therapy | previous therapy | previous visit | prior visit |
    previous echocardiogram | prior echocardiogram | previous imaging | prior imaging | previous exam | prior exam |
    previous study | prior study | prior studies | previous labs | prior labs | prior x-ray | previous x-ray |
    prior ct | prior mri | previous ct | previous mri | previous note | prior note | prior films |
    previous year 's | previous year | old records | past year | past week | past few | past several | past month |
    past couple | past day | past days | past two | past three | past 2 | past 3 | years old | year old |
    old female | old male | old man | old woman | old boy | old girl | even if | as if | if any | , if any |
    what if | RELATIVE HAVE noticed | RELATIVE HAVE noted | RELATIVE HAVE been giving | RELATIVE HAVE given |
    RELATIVE HAVE tried | RELATIVE HAVE not noticed | RELATIVE HAVE reported | RELATIVE HAVE observed |
    RELATIVE HAVE brought | RELATIVE HAVE concerns | RELATIVE HAVE questions | RELATIVE HAVE seen |
    RELATIVE HAVE been | RELATIVE with concerns | RELATIVE with questions | RELATIVE HAVE also noticed |
    RELATIVE who HAVE noticed | RELATIVE who HAVE noted | likely as not | not resolved | HAVE not resolved |
    not completely resolved | may take | may use | may continue | may return | could not | may not |
    can not be sure | suspected by POSSESSIVE
"""
# Findings that contain a negation.
NEGATIVE_FINDINGS = """
    no ISSUE OF | no SCALE ISSUE OF | no SCALE SCALE ISSUE OF | without ISSUE OF | without SCALE ISSUE OF |
    not SHOW ISSUE OF | not HAVE ISSUE OF | not HAVE any ISSUE OF | no known drug allergies | no known allergies |
    no known medication allergies | no known food allergies | no drug allergies | never smoker | never smoked |
    non smoker | not currently employed | lack of energy | lack of sleep | lack of appetite | lack of exercise |
    lack of motivation | lack of coordination | lack of interest | lack of concentration | lack of housing |
    lack of insurance | acquired absence of | congenital absence of | absence of limb | without complication |
    without complications | without aura | without behavioral disturbance | without loss of consciousness |
    without hematuria | without bleeding | without obstruction | not intractable | without status |
    without psychotic features | without myelopathy | without radiculopathy | without exacerbation
"""
