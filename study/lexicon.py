"""The invented details of a note: people, dates, numbers, drugs. Each function of WORDS maps `Facts` to a text.

Training and test notes share these words, which have no influence on coding; they do not share sentence shapes and
layouts. No drug here is coded when it is mentioned (anticoagulants, aspirin, insulin, steroids, antiplatelets, inhaled
steroids).

Read next: grammar.py.
"""

from dataclasses import dataclass, field


def words(text: str) -> list[str]:
    """The words of `text`."""
    return text.split()


def entries(text: str) -> list[str]:
    """The entries of `text`, which are separated by |."""
    return [entry.strip() for entry in text.split("|")]


SURNAMES = words(
    """
    Alvarez Bennett Chen Donovan Eriksen Fitzgerald Gupta Hargrove Ibrahim Jensen Kowalski Lombardi Mbeki Nakamura
    Okafor Pereira Quinn Rossi Schultz Tran Underwood Vasquez Whitfield Yamada Zimmerman Abbott Brennan Castillo
    Delgado Ellison Foster Greenberg Holloway Ingram Joshi Keller Larkin Morales Novak Ortega Patel Ramsey Sato
    Thornton Ulrich Voss Walsh Yates Ziegler Anders Boyd Cortez Dunn Everett Flores
    """
)
MEN = words(
    """
    James Robert Carlos Wei Ahmed George Peter Samuel Victor Henry Luis Patrick Frank Andre Joseph Martin Raj Omar
    Walter Dennis
    """
)
WOMEN = words(
    """
    Mary Linda Rosa Mei Fatima Helen Ruth Susan Diane Gloria Ana Teresa Carol Edith Priya Joan Irene Nora Alice Brenda
    """
)
HOSPITALS = entries(
    """
    an outside hospital|Mercy General|Lakeview Hospital|St. Agnes|the local community hospital|
    Riverside Medical Center|an OSH|County Memorial|Harbor Point Hospital|Northfield Regional
    """
)
FACILITIES = entries(
    """
    rehab|a skilled nursing facility|home|home with services|an extended care facility|home with VNA|acute rehab|
    her daughter's house|his son's house|assisted living|a SNF|short term rehab
    """
)
RELATIVES = entries(
    """
    Mother|Father|Brother|Sister|Maternal grandmother|Paternal uncle|Paternal grandfather|Maternal aunt|Son|Cousin|
    Maternal grandfather|Daughter
    """
)
JOBS = entries(
    """
    teacher|retired machinist|retired nurse|accountant|truck driver|former electrician|carpenter|
    retired postal worker|librarian|chef|engineer|software developer|retired bus driver|homemaker|shop owner|
    retired police officer|musician|farmer|mechanic|social worker|retired secretary
    """
)
DRUGS = entries(
    """
    lisinopril 10 mg daily|lisinopril 20 mg daily|metoprolol tartrate 25 mg BID|metoprolol succinate 50 mg daily|
    atorvastatin 40 mg daily|atorvastatin 80 mg qHS|simvastatin 20 mg qHS|furosemide 40 mg daily|
    furosemide 20 mg PO BID|amlodipine 5 mg daily|amlodipine 10 mg daily|omeprazole 20 mg daily|
    pantoprazole 40 mg BID|levothyroxine 75 mcg daily|levothyroxine 112 mcg daily|metformin 500 mg BID|
    metformin 1000 mg BID|gabapentin 300 mg TID|sertraline 50 mg daily|citalopram 20 mg daily|trazodone 50 mg qHS|
    losartan 50 mg daily|hydrochlorothiazide 25 mg daily|carvedilol 6.25 mg BID|tamsulosin 0.4 mg qHS|
    docusate 100 mg BID|senna 8.6 mg BID PRN|acetaminophen 650 mg Q6H PRN|multivitamin daily|folic acid 1 mg daily|
    thiamine 100 mg daily|potassium chloride 20 mEq daily|magnesium oxide 400 mg daily|calcium carbonate 500 mg TID|
    cholecalciferol 1000 units daily|ferrous sulfate 325 mg daily|allopurinol 100 mg daily|
    albuterol inhaler 2 puffs Q4H PRN|ipratropium nebs Q6H PRN|tiotropium 18 mcg daily|spironolactone 25 mg daily|
    digoxin 0.125 mg daily|diltiazem 120 mg daily|amiodarone 200 mg daily|lorazepam 0.5 mg PRN|oxycodone 5 mg Q4H PRN|
    tramadol 50 mg Q6H PRN|levetiracetam 500 mg BID|lamotrigine 100 mg BID|quetiapine 25 mg qHS|mirtazapine 15 mg qHS|
    donepezil 10 mg qHS|latanoprost 1 drop OU qHS|polyethylene glycol 17 g daily|ranitidine 150 mg BID|
    famotidine 20 mg BID|bupropion 150 mg daily|fluoxetine 20 mg daily|venlafaxine 75 mg daily|hydralazine 25 mg TID|
    isosorbide mononitrate 30 mg daily|nitroglycerin 0.4 mg SL PRN|finasteride 5 mg daily|oxybutynin 5 mg BID|
    lactulose 30 mL TID|nadolol 20 mg daily|sevelamer 800 mg TID with meals|rosuvastatin 10 mg daily|
    valsartan 80 mg daily|glipizide 5 mg daily|montelukast 10 mg daily|cetirizine 10 mg daily|bumetanide 1 mg daily|
    torsemide 20 mg daily|ondansetron 4 mg Q8H PRN|melatonin 3 mg qHS|zolpidem 5 mg qHS PRN|
    cyanocobalamin 1000 mcg daily
    """
)
ANTIBIOTICS = entries(
    """
    vancomycin|ceftriaxone|levofloxacin|cefepime|piperacillin-tazobactam|azithromycin|Zosyn|ciprofloxacin|
    metronidazole|Augmentin|cefazolin|doxycycline|meropenem|nafcillin|Bactrim
    """
)
ALLERGENS = entries(
    """
    Penicillins|Sulfa|Codeine|Latex|Iodine contrast|Morphine|Shellfish|Erythromycin|Percocet|Lisinopril|Amoxicillin|
    Ciprofloxacin|Tetracycline|Adhesive tape|Demerol|Bactrim|Keflex
    """
)
REACTIONS = entries(
    """
    rash|hives|itching|GI upset|unknown reaction|swelling|confusion|nausea|throat tightness|cough
    """
)
SERVICES = entries(
    """
    MEDICINE|CARDIOTHORACIC|SURGERY|NEUROLOGY|NEUROSURGERY|ORTHOPAEDICS|CARDIOLOGY|Internal Medicine|General Surgery|
    MICU|Family Medicine|Hospital Medicine|TRAUMA|Geriatrics|Oncology
    """
)
SPECIALTIES = entries(
    """
    cardiology|nephrology|neurology|your primary care doctor|pulmonology|gastroenterology|the wound clinic|
    general surgery|endocrinology|hematology|oncology|physical therapy|orthopedics|vascular surgery|infectious disease
    """
)
MONTHS = words("January February March April May June July August September October November December")


@dataclass
class Facts:
    """What does not change within a note, and the random generator of the note."""

    rng: object
    male: bool = True
    age: int = 60
    surname: str = "Chen"
    first: str = "Wei"
    doctor: str = "Voss"
    name_style: int = 0
    year: int = 2015
    memory: dict = field(default_factory=dict)

    @classmethod
    def draw(cls, rng) -> "Facts":
        """Random facts for a note."""
        male = rng.random() < 0.5
        age = min(97, max(19, int(rng.gauss(66, 16))))
        return cls(
            rng,
            male,
            age,
            rng.choice(SURNAMES),
            rng.choice(MEN if male else WOMEN),
            rng.choice(SURNAMES),
            rng.randrange(6),
            rng.randrange(2003, 2025),
        )


def _patient(f):
    style = f.name_style if f.rng.random() < 0.6 else f.rng.randrange(6)
    title = ("Mr." if f.male else "Ms.") if style != 4 else ("Mr" if f.male else "Mrs.")
    return ("The patient", "Pt", "Patient", f"{title} {f.surname}", f"{title} {f.surname}", "He" if f.male else "She")[
        style
    ]


def _the_patient(f):
    style = f.name_style if f.rng.random() < 0.7 else f.rng.randrange(5)
    return (
        "the patient",
        "pt",
        "the patient",
        f"{'Mr.' if f.male else 'Ms.'} {f.surname}",
        "the pt",
        "he" if f.male else "she",
    )[style]


def _age(f):
    return f.rng.choice(
        (
            f"{f.age} year old",
            f"{f.age}-year-old",
            f"{f.age} y.o.",
            f"{f.age}yo",
            f"{f.age} yo",
            f"{f.age} y/o",
            f"{f.age} year-old",
        )
    )


def _an_age(f):
    return ("an " if f.age in (18,) or 80 <= f.age <= 89 else "a ") + _age(f)


def _sex(f):
    return f.rng.choice(
        ("man", "male", "gentleman", "M", "man", "male")
        if f.male
        else ("woman", "female", "lady", "F", "woman", "female")
    )


def _date(f):
    rng = f.rng
    month, day = rng.randrange(1, 13), rng.randrange(1, 29)
    return rng.choice(
        (
            f"{month}/{day}",
            f"{month}/{day}/{f.year % 100:02d}",
            f"{month:02d}/{day:02d}/{f.year}",
            f"{MONTHS[month - 1]} {day}",
            f"{f.year}-{month:02d}-{day:02d}",
            f"{day} {MONTHS[month - 1][:3]} {f.year}",
            f"{MONTHS[month - 1][:3]} {day}",
        )
    )


def _full_date(f):
    month, day = f.rng.randrange(1, 13), f.rng.randrange(1, 29)
    return f.rng.choice(
        (
            f"{f.year}-{month:02d}-{day:02d}",
            f"{month:02d}/{day:02d}/{f.year}",
            f"{MONTHS[month - 1]} {day}, {f.year}",
            f"{month}/{day}/{f.year}",
        )
    )


def _number(low, high):
    return lambda f: str(f.rng.randrange(low, high + 1))


def _decimal(low, high, digits=1):
    return lambda f: f"{f.rng.uniform(low, high):.{digits}f}"


def _of(options):
    return lambda f: f.rng.choice(options)


def _drug_name(f):
    return f.rng.choice(DRUGS).split()[0]


def _time(f):
    number = f.rng.randrange(2, 9)
    return f.rng.choice(
        (
            f"{number} days",
            f"{number} weeks",
            f"{number} months",
            "several days",
            "the past week",
            "two days",
            "about a month",
            f"{number} hours",
            "1 day",
            "a few weeks",
        )
    )


WORDS = {
    "Pt": _patient,
    "pt": _the_patient,
    "age": _age,
    "an_age": _an_age,
    "sex": _sex,
    "years": lambda f: str(f.age),
    "he": lambda f: "he" if f.male else "she",
    "He": lambda f: "He" if f.male else "She",
    "his": lambda f: "his" if f.male else "her",
    "His": lambda f: "His" if f.male else "Her",
    "him": lambda f: "him" if f.male else "her",
    "M": lambda f: "M" if f.male else "F",
    "surname": lambda f: f.surname,
    "first": lambda f: f.first,
    "mr": lambda f: ("Mr. " if f.male else "Ms. ") + f.surname,
    "gender": lambda f: "Male" if f.male else "Female",
    "doctor": lambda f: f"Dr. {f.doctor}" if f.rng.random() < 0.5 else f"Dr. {f.rng.choice(SURNAMES)}",
    "date": _date,
    "fulldate": _full_date,
    "year": lambda f: str(f.year - f.rng.randrange(1, 25)),
    "time": _time,
    "hospital": _of(HOSPITALS),
    "facility": _of(FACILITIES),
    "relative": _of(RELATIVES),
    "job": _of(JOBS),
    "drug": _of(DRUGS),
    "drugname": _drug_name,
    "antibiotic": _of(ANTIBIOTICS),
    "allergen": _of(ALLERGENS),
    "reaction": _of(REACTIONS),
    "service": _of(SERVICES),
    "specialty": _of(SPECIALTIES),
    "few": _number(2, 9),
    "ten": _number(10, 40),
    "sbp": _number(104, 152),
    "dbp": _number(54, 88),
    "hr": _number(58, 98),
    "rr": _number(12, 20),
    "sat": _number(94, 100),
    "temp": _decimal(97.0, 99.1),
    "tempc": _decimal(36.2, 37.3),
    "hgb": _decimal(11.2, 15.4),
    "wbc": _decimal(4.6, 10.8),
    "plt": _number(155, 390),
    "na": _number(135, 144),
    "k": _decimal(3.6, 4.9),
    "cl": _number(97, 108),
    "bicarb": _number(22, 28),
    "bun": _number(8, 24),
    "cr": _decimal(0.6, 1.2),
    "glucose": _number(78, 128),
    "ca": _decimal(8.5, 10.1),
    "mg": _decimal(1.7, 2.3),
    "inr": _decimal(0.9, 1.2),
    "hct": _decimal(33.5, 45.0),
    "alt": _number(12, 44),
    "troponin": _of(["<0.01", "0.01", "negative", "0.02"]),
    "ef": _number(50, 65),
    "weight": _decimal(52, 118),
    "percent": _number(40, 95),
    "size": _decimal(0.4, 2.9),
    "lot": _number(10000, 99999),
}
