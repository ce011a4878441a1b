"""The phrases of cues.py: words that say whether a finding is denied, someone else's, hypothetical or past.

Sources: the trigger lists of NegEx (Chapman et al. 2001, J Biomed Inform 34:301-310) and of ConText (Harkema et al.
2009, J Biomed Inform 42:839-851), chosen and worded anew; uncertain diagnoses by the ICD-10-CM Official Guidelines,
sections II.H and IV.H ("probable", "suspected", "questionable", "rule out", "compatible with", "consistent with",
"working diagnosis"); labels, signs and bullets as ACI-Bench notes (Yim et al. 2023) and templates of EHRs write them.

A phrase is words in lower case, separated by "|" from the next. A word in capitals stands for any word of that class
(words.WORD_CLASSES); STOP is a mark that ends a phrase, or the end of the sentence, and is not part of it.
"n't" is read as "not"; "-x" and "?x" are signs just before a word ("+cough -fever", "?gout"); "[]" and "[x]" are check
boxes of any kind, "¦" is the border between a table's cells.

Read next: cues.py, for what each list does.
"""

# Someone else's. A relative counts only as one who has something, not as one who tells, accompanies or worries.
FAMILY_BEFORE = """
    family history of | family history BE | family history | family hx of | family hx | fam hx | fhx | fh of |
    fh : | fh positive for | fh for | family history for | fh significant for | fh notable for |
    family medical history | familial history | family members with | family members positive for |
    family member with | family members HAVE | family members who HAVE | family member who HAVE | family HAVE |
    runs in the family | RELATIVE HAVE | RELATIVE NEWLY HAVE | RELATIVE sick with | RELATIVE ill with |
    RELATIVE both HAVE | RELATIVE both with | RELATIVE who HAVE | RELATIVE who had | RELATIVE who BE |
    RELATIVE who died | RELATIVE , who HAVE | RELATIVE , who died | RELATIVE died of | RELATIVE died from |
    RELATIVE died | RELATIVE passed away | RELATIVE passed | RELATIVE suffers | RELATIVE suffered |
    RELATIVE developed | RELATIVE deceased | RELATIVE BE diagnosed | RELATIVE HAVE been diagnosed |
    RELATIVE BE deceased | RELATIVE BE positive for | RELATIVE BE treated for | RELATIVE BE sick with |
    RELATIVE BE ill with | RELATIVE BE hospitalized | RELATIVE BE affected by | RELATIVE BE a |
    RELATIVE BE diabetic | RELATIVE tested | RELATIVE positive for | RELATIVE at | RELATIVE age |
    RELATIVE and RELATIVE HAVE | RELATIVE and RELATIVE with | RELATIVE and RELATIVE BE |
    RELATIVE and RELATIVE both HAVE | RELATIVE both with | RELATIVE and RELATIVE : | RELATIVE and RELATIVE died |
    RELATIVE and SIDE RELATIVE HAVE | RELATIVE and SIDE RELATIVE with | RELATIVE or RELATIVE with |
    RELATIVE history of | RELATIVE alive | RELATIVE diagnosed | RELATIVE NEWLY diagnosed |
    RELATIVE BE NEWLY diagnosed | RELATIVE HAVE NEWLY been diagnosed | RELATIVE of patient HAVE |
    RELATIVE of the patient HAVE | RELATIVE of patient with | RELATIVE ¦
"""
# In a table's row: both the cells before and those after.
FAMILY_CELLS = "¦ RELATIVE STOP | ¦ SIDE RELATIVE STOP"
# A relative who is not the source: not "per mother: …", "accompanied by mother with …".
FAMILY_LABELS = "RELATIVE with | RELATIVE w / | RELATIVE - | RELATIVE – | RELATIVE : | RELATIVE ( | : RELATIVE ("
FAMILY_PHRASES = "RELATIVE 's | parents ' | sisters ' | brothers '"
FAMILY_AFTER = """
    in POSSESSIVE RELATIVE | in POSSESSIVE SIDE RELATIVE | in RELATIVE | in SIDE RELATIVE | in both RELATIVE |
    in POSSESSIVE family | in family | in family members | in several relatives | ( RELATIVE | ( SIDE RELATIVE |
    - RELATIVE STOP | - RELATIVE and | - SIDE RELATIVE | – RELATIVE STOP | – RELATIVE and | : RELATIVE STOP |
    : RELATIVE and | : SIDE RELATIVE STOP | runs in the family | runs in POSSESSIVE family |
    run in POSSESSIVE family | on SIDE side | on POSSESSIVE SIDE side | in a first-degree relative |
    in first-degree RELATIVE
"""

# Conditions, instructions and prevention.
CONDITION_BEFORE = """
    if | if SUBJECT HAVE | unless | whether | in case of | in case SUBJECT HAVE | in the event of | should SUBJECT |
    should POSSESSIVE | should any | should there be | should these | should this | return for | return to ed for |
    return to the ed for | return to the emergency room for | return if | call for | call us for | come back for |
    come back sooner if | follow up for any | seek care for | seek medical attention for | watch for |
    watch out for | look for | look out for | be alert for | be watchful for | monitor for | monitoring for |
    observe for | return precautions | precautions for | precautions : | until SUBJECT | such as when
"""
# At the start of a sentence.
SHOULD, WHEN = "should", "when | whenever"
PLAN_BEFORE = """
    differential diagnosis | differential includes | differential : | ddx | differential BE |
    differential diagnosis BE | rule out | rule out for | to rule out | rule-out | rule - out | r / o | ro |
    rule SUBJECT out for | to exclude | exclude | evaluate for | evaluate SUBJECT for | evaluated for possible |
    eval for | evaluation for | assess for | assessed for | check for | test for | testing for | tested for |
    work up for | workup for | worked up for | work-up for | screen for | screened for | screening for |
    screens for | screening of | screening mammogram for | screening colonoscopy for | to look for | looking for |
    any signs of | any evidence of | risk of | risk for | risks of | at risk for | risk factors for |
    risk factor for | high risk for | increased risk for | risks including | risks include | risk include |
    risk includes | risks : | complications including | complications include | complications such as |
    side effects including | side effects include | side effects such as | side effects : |
    adverse effects including | to prevent | prevent | prevents | preventing | prevention of | to avoid |
    prophylaxis for | prophylaxis against | ppx for | protect against | vaccine for | vaccine against |
    vaccination for | vaccination against | vaccinated against | vaccinated for | immunized against |
    immunization against | as needed for | as-needed for | prn for | prn | counseled on signs of | the signs of |
    signs of | signs and symptoms of | signs or symptoms of | sign or symptom of | warning signs of | symptoms of |
    educated on signs of | educated about | information about | fear of | fears | can cause | may cause |
    could cause | can lead to | may lead to | could lead to | would cause | exposure to | exposed to
"""
# Uncertain diagnoses, in lists: IV.H and what Coding Clinic counts with it.
UNCERTAIN_BEFORE = """
    suspect | suspects | suspected to have | suspicion for | suspicion of | possibility of | suspicious for |
    high suspicion for | concern for | concerns for | concerning for | concerned for | concerned about |
    concern about | concern of | concerned that | worried about | worry about | worrisome for | consistent with |
    compatible with | comparable with | c / w | suggestive of | suggests | suggesting | suggest | indicative of |
    may represent | might represent | could represent | may have | might have | could have | may be | might be |
    could be | may indicate | could indicate | MAY well be | MAY reflect | may also be | MAY be due to |
    MAY be related to | likely due to | likely secondary to | likely related to | likely from | likely to be |
    likely to have | BE likely | BE most likely | BE likely due to | BE likely secondary to | BE likely related to |
    BE likely from | BE most likely due to | most likely due to | possible that | most likely | very likely |
    more likely | likely | probably | probably due to | possibly | possibly due to | presumably | presumed to be |
    thought to be | BE thought to be | BE thought to have | felt to be | BE felt to be | appears to be due to |
    what appears to be | working diagnosis | working diagnosis of | can not rule out | can not exclude |
    not rule out | not exclude | unable to rule out | could not rule out | question of | think SUBJECT may have |
    will consider | would consider | could consider | consider | query | versus | vs | vs .
"""
UNCERTAIN_ADJECTIVES = (
    "possible | suspected | probable | questionable | presumed | presumptive | potential | equivocal | ?x"
)
HYPOTHETICAL_AFTER = """
    BE suspected | suspected STOP | BE possible STOP | BE a possibility | BE probable STOP | probable STOP |
    BE likely STOP | BE most likely STOP | likely STOP | possible STOP | can not be excluded |
    can not be ruled out | could not be excluded | could not be ruled out | not excluded | not ruled out |
    not been ruled out | HAVE not been ruled out | HAVE not been excluded | BE not ruled out | BE not excluded |
    to be ruled out | to be excluded | needs to be ruled out | must be ruled out | should be ruled out |
    BE to be ruled out | BE in the differential | in the differential | on the differential |
    BE on the differential | BE questionable | vs | vs . | versus
"""
HYPOTHETICAL_AFTER_WORD = """
    ? | screening | screen | screenings | prophylaxis | ppx | precautions | prevention | risk | risk factors |
    vaccine | vaccines | vaccination | vaccinations | immunization | immunizations | shot | booster | testing |
    workup
"""

# Past. "History of" stands apart: see words.CHRONIC.
HISTORY_BEFORE = """
    history of | personal history of | hx of | h / o | hx | medical history of | past medical history of |
    past history of | history of a | surgical history of | prior history of | previous history of |
    remote history of | history includes
"""
HISTORICAL_BEFORE = """
    EARLIER pregnancy complicated by | EARLIER pregnancy with | no longer HAVE | no longer ING |
    no longer ING from | no longer suffering from | no longer suffers from | no longer with |
    no longer complains of | resolution of | recovered from | recovering from | BE resolved from |
    HAVE recovered from | used to have | used to get | previously had | previously HAVE | previously experienced |
    previously , PRONOUN experienced | previously , PRONOUN HAVE | HAVE previously had | as a child HAVE |
    as a child SUBJECT HAVE
"""
HISTORICAL_ADJECTIVES = """
    status post | s / p | previous | previously | prior | past | old | remote | former | resolved | healed |
    no longer | childhood | previous history of | history | last year 's
"""
HISTORICAL_AFTER = """
    in POSSESSIVE EARLIER pregnancy | with POSSESSIVE EARLIER pregnancy | during POSSESSIVE EARLIER pregnancy |
    in EARLIER pregnancy | in the past | in POSSESSIVE past | in the remote past | in the distant past |
    as a child | as a teenager | as an infant | as a baby | in childhood | as a young adult | BE resolved |
    HAVE resolved | HAVE since resolved | HAVE now resolved | HAVE completely resolved | HAVE fully resolved |
    HAVE spontaneously resolved | spontaneously resolved | resolved spontaneously | resolved completely |
    now resolved | since resolved | resolved STOP | resolved with | resolved after | resolved by | resolved on |
    , which resolved | , which HAVE resolved | , which HAVE now resolved | , which HAVE since resolved |
    which resolved | that resolved | , resolved | HAVE gone away | went away | HAVE subsided | HAVE cleared |
    BE gone
"""
# After a finding, where the operation that follows removed it.
REMOVED_AFTER = "s / p | status post"
YEARS_AGO = "years ago | year ago | decades ago | decade ago | yrs ago | yr ago | years prior | years back"

# What ends a scope.
CONTRASTS = """
    given | as SUBJECT | as the patient | but | however | although | though | yet | whereas | nevertheless |
    nonetheless | except | except for | with the exception of | apart from | aside from | other than | besides |
    despite | in spite of | while | instead | secondary to | at the time of | since the | because | because of |
    due to | caused by | causing POSSESSIVE | attributed to | for which | still | otherwise
"""
AFFIRMATIONS = """
    endorses | endorse | endorsed | endorsing | reports | reported | report | reporting | admits | admits to |
    admitted to | complains of | complaining of | c / o | complained of | presents with | presented with |
    presenting with | presents for | here for | here with | comes in for | positive for | positive : |
    BE positive for | pos for | states | stated | significant for | notable for | remarkable for | noteworthy for |
    SUBJECT HAVE | SUBJECT also HAVE | SUBJECT do have | SUBJECT does have | continues to have |
    continues to experience | found to have | diagnosed with | confirms | affirms | acknowledges | describes |
    not deny | not denying | not denied | not without | never without | never denied | and known | , known | , dx |
    [x] | there BE | shows | reveals | demonstrates | showed | revealed | demonstrated | ( + ) | [ + ] | + |
    treated for | being treated for | now with | now has | currently | presently | developed | notes | does have |
    positive | SUBJECT continues | SUBJECT takes | SUBJECT uses
"""
PATIENT_CUES = """
    the patient | this patient | patient | pt | patient 's | the patient 's | pt 's | he himself | she herself |
    personal history of
"""
