"""Word lists: what may be a name, what is a word all the same, and what is an eponym of medicine.

female.txt, male.txt and last.txt are the names of the United States census of 1990, most frequent first (of the
surnames, the first 12,000); words.txt says which of them are also words. All in lower case.
"""

from functools import cache
from importlib.resources import files


@cache
def words_of(name: str) -> frozenset[str]:
    """Read one list."""
    return frozenset(in_order(name))


@cache
def in_order(name: str) -> tuple[str, ...]:
    """Read one list, most frequent first."""
    text = (files("mmmed.data.deidentify") / "lexicon" / f"{name}.txt").read_text(encoding="utf-8")
    return tuple(text.split())


@cache
def first_names() -> frozenset[str]:
    """Given names of either sex."""
    return words_of("female") | words_of("male")


@cache
def names() -> frozenset[str]:
    """Given names and surnames."""
    return first_names() | words_of("last")


@cache
def plain_words() -> frozenset[str]:
    """Names that are words, and the words of headings."""
    return words_of("words") | STRUCTURE


@cache
def clear_first_names() -> frozenset[str]:
    """Given names that are no word, no eponym and no part of one, so that they stand for a person even alone."""
    return first_names() - words_of("words") - STRUCTURE - EPONYMS - _SHORT


_SHORT = frozenset(["al", "an", "ha", "la", "le", "li", "lo", "lu", "ma", "me", "mi", "my", "na", "no", "so", "su", "ta", "ty", "un", "da", "de", "in", "ed", "ai", "ji", "an", "yi", "hi", "do"])

EPONYMS = frozenset(
    ["achilles", "addison", "adson", "alzheimer", "apgar", "apley", "aschoff", "asperger", "auspitz", "babinski", "baker", "barlow", "barr", "barre", "barré", "barrett", "bartholin", "bartter", "basedow", "batten", "becker", "beck", "beckwith", "behcet", "behçet", "bell", "bennett", "berger", "bernard", "binswanger", "bishop", "bouchard", "boutonniere", "bowen", "bowman", "brandt", "breslow", "bright", "broca", "brodie", "brown-sequard", "brudzinski", "brugada", "buerger", "burkitt", "calot", "caldwell", "charcot", "chagas", "chaddock", "chediak", "cheyne", "chiari", "child", "chvostek", "clark", "coats", "cobb", "colles", "conn", "coombs", "cooper", "courvoisier", "cowden", "crigler", "crohn", "cullen", "cushing", "dandy", "darier", "dequervain", "dercum", "descemet", "dix", "dubin", "duchenne", "dupuytren", "ebstein", "edwards", "ehlers", "eisenmenger", "epstein", "erb", "ewing", "fabry", "fallot", "fanconi", "felty", "finkelstein", "fisher", "fleischner", "foley", "forrester", "fontan", "fournier", "frank", "freiberg", "friedreich", "froment", "fuchs", "gaucher", "ghon", "giemsa", "gilbert", "gleason", "glasgow", "glisson", "goldmann", "goodpasture", "gottron", "graves", "grawitz", "grey", "grocott", "guillain", "guyon", "hallpike", "hansen", "hartmann", "hartnup", "hashimoto", "hawkins", "heberden", "hegar", "heimlich", "heinz", "henle", "henoch", "heister", "hering", "hill", "hirschsprung", "hodgkin", "hoffman", "hoffmann", "homans", "horner", "howell", "hounsfield", "hunt", "hunter", "huntington", "hurler", "hutchinson", "jackson", "janeway", "jeghers", "johnson", "jones", "kaplan", "kaposi", "kartagener", "kawasaki", "kayser", "kegel", "kerley", "kernig", "kienbock", "killip", "kimmelstiel", "klinefelter", "klippel", "klumpke", "koch", "koplik", "korotkoff", "korsakoff", "krukenberg", "kussmaul", "lachman", "langerhans", "langhans", "laplace", "larsen", "lasegue", "lemierre", "legionella", "leriche", "lesch", "levine", "lewy", "lhermitte", "lisfranc", "littre", "lynch", "lyme", "mallory", "mantoux", "marfan", "marcus", "mcburney", "mcmurray", "meckel", "meniere", "ménière", "merkel", "meigs", "mobitz", "mohs", "monro", "moro", "morton", "muller", "murphy", "nelson", "neer", "nissen", "nikolsky", "noonan", "ogilvie", "osgood", "osler", "osgood-schlatter", "paget", "pancoast", "papanicolaou", "parinaud", "parkinson", "patrick", "pearson", "peyer", "peyronie", "peutz", "phalen", "plummer", "pott", "potter", "prader", "price", "prinzmetal", "purkinje", "ramsay", "ranson", "rathke", "raynaud", "reed", "reiter", "rett", "reye", "reynolds", "richter", "rinne", "romano", "romberg", "rorschach", "roth", "rovsing", "roux", "russell", "salter", "schatzki", "schilling", "schlatter", "schlemm", "schober", "schwann", "seldinger", "sezary", "sheehan", "sims", "sister", "sjogren", "sjögren", "skene", "snellen", "sorbo", "spurling", "starling", "steinert", "still", "stokes", "strauss", "sturge", "swan", "swan-ganz", "sydenham", "takayasu", "tay", "thomas", "thompson", "tietze", "tinel", "todd", "tourette", "trendelenburg", "trousseau", "turner", "valsalva", "vater", "vincent", "virchow", "von", "waldenstrom", "waldeyer", "wallenberg", "warthin", "weber", "wegener", "wenckebach", "wernicke", "westphal", "whipple", "white", "widal", "willebrand", "williams", "willis", "douglas", "brooke", "monteggia", "möbius", "moebius", "münchausen", "munchausen", "kümmell", "ødman", "wilms", "wilson", "wolff", "wood", "wright", "young", "zenker", "zollinger", "ziehl", "zellweger", "bruijn", "brugia", "hickman", "lugol", "ringer", "wright-giemsa", "dakin", "kirschner", "jackson-pratt", "penrose", "kocher", "yankauer", "bovie", "doppler", "fowler", "sims"]
)
"""People after whom something in medicine is named; a few are common surnames, which then need a better reason."""

EPONYM_NOUNS = frozenset(
    ["disease", "syndrome", "sign", "signs", "test", "tests", "tumor", "tumour", "lymphoma", "sarcoma", "carcinoma", "cell", "cells", "line", "lines", "node", "nodes", "body", "bodies", "catheter", "phenomenon", "reflex", "maneuver", "manoeuvre", "procedure", "fracture", "fractures", "palsy", "law", "score", "scores", "scale", "classification", "criteria", "criterion", "stain", "reaction", "anemia", "anaemia", "contracture", "esophagus", "oesophagus", "thyroiditis", "chorea", "encephalopathy", "dystrophy", "ataxia", "lesion", "lesions", "nodule", "nodules", "ring", "rings", "point", "triangle", "ulcer", "hernia", "fistula", "diverticulum", "pouch", "position", "solution", "index", "stage", "grade", "grading", "staging", "operation", "technique", "method", "approach", "deformity", "purpura", "nephropathy", "granulomatosis", "arteritis", "angina", "aphasia", "area", "duct", "gland", "glands", "membrane", "canal", "loop", "virus", "pneumonia", "cyst", "fossa", "space", "ligament", "tendon", "unit", "units", "equation", "formula", "curve", "mask", "tube", "drain", "clamp", "b's", "a's", "effect", "granuloma", "malformation", "anomaly", "tetralogy", "circle", "hump", "hill-sachs", "incision", "repair", "block", "type", "respiration", "respirations", "breathing", "pulse", "murmur", "spots", "spot", "arthropathy", "joint", "view", "lactate", "ultrasound", "study", "flow"]
)
"""What follows an eponym."""

STRUCTURE = frozenset(
    ["patient", "patients", "pt", "name", "date", "dob", "mrn", "ssn", "phone", "fax", "email", "address", "age", "sex", "gender", "male", "female", "history", "physical", "exam", "examination", "chief", "complaint", "assessment", "plan", "impression", "findings", "technique", "comparison", "indication", "reason", "report", "result", "results", "review", "systems", "vitals", "vital", "signs", "medications", "medication", "allergies", "social", "family", "surgical", "past", "present", "illness", "general", "head", "neck", "chest", "heart", "lung", "lungs", "abdomen", "extremities", "neurological", "skin", "eyes", "ears", "nose", "mouth", "throat", "cardiovascular", "respiratory", "gastrointestinal", "musculoskeletal", "psychiatric", "constitutional", "hematology", "lymphatic", "immunology", "integumentary", "genitourinary", "endocrine", "hospital", "clinic", "center", "centre", "medical", "health", "community", "department", "unit", "emergency", "radiology", "surgery", "medicine", "oncology", "cardiology", "neurology", "orthopedics", "pediatrics", "doctor", "physician", "nurse", "attending", "resident", "provider", "consultant", "surgeon", "radiologist", "signed", "electronically", "dictated", "follow", "followup", "follow-up", "scheduled", "visit", "admission", "discharge", "admitted", "discharged", "insurance", "id", "record", "number", "account", "member", "the", "a", "an", "and", "or", "of", "in", "on", "at", "to", "for", "with", "from", "by", "is", "was", "are", "were", "has", "have", "had", "he", "she", "they", "his", "her", "their", "i", "we", "you", "it", "this", "that", "these", "those", "there", "here", "what", "when", "where", "which", "who", "whom", "whose", "why", "how", "if", "then", "than", "not", "no", "yes", "none", "all", "any", "some", "each", "every", "other", "monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday", "january", "february", "march", "april", "may", "june", "july", "august", "september", "october", "november", "december", "mon", "tue", "wed", "thu", "fri", "sat", "sun", "jan", "feb", "mar", "apr", "jun", "jul", "aug", "sep", "sept", "oct", "nov", "dec", "guidelines", "guideline", "treatment", "management", "recommendations", "options", "therapy", "risk", "factors", "efficacy", "evaluation", "effects", "latest", "current", "best", "practices", "comparison", "drug", "interactions", "side", "effect", "case", "study", "best", "approach", "right", "left", "bilateral", "upper", "lower", "anterior", "posterior", "lateral", "medial", "view", "pa", "ap", "ct", "mri", "mr", "us", "pet", "xr", "ecg", "ekg", "iv", "po", "blood", "pressure", "rate", "temperature", "pulse", "oxygen", "saturation", "weight", "height", "bmi", "normal", "negative", "positive", "denies", "reports", "states", "notes", "presents", "regarding", "continue", "continued", "return", "returns", "returned", "street", "avenue", "road", "drive", "lane", "suite", "apt", "city", "state", "zip", "country", "usa", "md", "do", "rn", "np", "pa", "phd", "mbbs", "frcs", "facs", "msn", "dpm", "dds", "jr", "sr", "ii", "iii", "iv", "mr", "mrs", "ms", "miss", "dr", "prof", "sir", "madam", "lady", "lord", "st", "saint", "nombre", "apellidos", "apellido", "fecha", "nacimiento", "edad", "sexo", "domicilio", "localidad", "provincia", "cp", "episodio", "médico", "medico", "hospital", "servicio", "paciente", "varón", "mujer", "informe", "clínico", "datos", "país", "españa", "correo", "teléfono", "tfno", "fax", "calle", "plaza", "avenida", "nhc", "nass", "cipa", "nº", "nºcol", "nocol", "col", "ncol", "covid", "covid-19", "remitido", "responsable", "don", "doña", "el", "la", "los", "las", "un", "una", "de", "del", "y", "en", "con", "por", "para"]
)
"""Words of headings and forms that begin with a capital and are no part of a name."""
