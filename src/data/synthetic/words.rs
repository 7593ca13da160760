//! The vocabulary of the invented catalogue.

/// A genre and how it speaks.
#[derive(Debug, Clone, Copy)]
pub struct Genre {
    /// As in the catalogue.
    pub name: &'static str,
    /// Nouns of its titles.
    pub nouns: [&'static str; 8],
    /// In a description: "this ... story".
    pub manner: &'static str,
    /// In a description: what it is full of.
    pub marks: [&'static str; 4],
}

pub const GENRES: [Genre; 8] = [
    Genre {
        name: "Action",
        nouns: ["Strike", "Bridge", "Convoy", "Hammer", "Pursuit", "Siege", "Falcon", "Fuse"],
        manner: "hard-driving action",
        marks: ["breathless chases", "rooftop fights", "a ticking clock", "stunts done for real"],
    },
    Genre {
        name: "Animation",
        nouns: ["Lantern", "Fox", "Kite", "Acorn", "Snowman", "Teapot", "Otter", "Paintbox"],
        manner: "hand-drawn animated",
        marks: ["talking animals", "bright painted worlds", "gentle songs", "jokes for all ages"],
    },
    Genre {
        name: "Comedy",
        nouns: ["Wedding", "Landlord", "Uncle", "Holiday", "Parrot", "Roommate", "Picnic", "Trousers"],
        manner: "quick-witted comic",
        marks: ["mistaken identities", "dry banter", "slapstick set pieces", "one awkward dinner"],
    },
    Genre {
        name: "Drama",
        nouns: ["House", "Winter", "Letter", "Orchard", "Silence", "Daughter", "Promise", "Harvest"],
        manner: "quietly observed dramatic",
        marks: ["long silences", "difficult choices", "fine ensemble acting", "an old grief"],
    },
    Genre {
        name: "Horror",
        nouns: ["Cellar", "Crow", "Mirror", "Fog", "Whisper", "Hollow", "Scarecrow", "Attic"],
        manner: "slow-burning horror",
        marks: ["creaking corridors", "sudden shocks", "something unseen", "a dreadful secret below"],
    },
    Genre {
        name: "Romance",
        nouns: ["Kiss", "Balcony", "Waltz", "Rose", "Summer", "Stranger", "Serenade", "Ribbon"],
        manner: "tender romantic",
        marks: ["stolen glances", "letters never sent", "moonlit walks", "a love that comes late"],
    },
    Genre {
        name: "Sci-Fi",
        nouns: ["Orbit", "Signal", "Machine", "Colony", "Comet", "Android", "Horizon", "Reactor"],
        manner: "speculative science fiction",
        marks: ["strange machines", "distant colonies", "questions about memory", "starlit vistas"],
    },
    Genre {
        name: "Western",
        nouns: ["Saddle", "Canyon", "Marshal", "Stagecoach", "Prairie", "Revolver", "Homestead", "Rail"],
        manner: "dust-blown western",
        marks: ["wide plains", "a lonely lawman", "duels at noon", "a feud over land"],
    },
];

/// What a story is about: its name for the corpus, and two ways of telling it.
pub const THEMES: [[&str; 3]; 6] = [
    ["heists", "a carefully planned theft that goes wrong", "a band of thieves and their last big job"],
    ["family", "a broken family that must share one roof again", "brothers and sisters who learn to forgive"],
    ["sea voyages", "a perilous voyage across the open sea", "a ship, its crew and a storm they cannot outrun"],
    ["justice", "a trial in which nobody tells the whole truth", "a young lawyer who defends an unpopular client"],
    ["music", "a musician on the way from street corners to fame", "an ageing band that plays one more concert"],
    ["sport", "an underdog team that nobody expects to win", "a retired champion who trains a gifted rival"],
];

/// From worst to best reception.
pub const RECEPTION: [[&str; 2]; 5] = [
    ["Critics called it dull and badly put together", "Most viewers left bored, and it is remembered as a failure"],
    ["Reviews were cool, and its weak second half was much noted", "Audiences found it clumsy and too long"],
    ["Opinions were mixed", "It was received as solid but unremarkable"],
    ["Reviewers praised its craft and its performances", "It was warmly received and found a loyal audience"],
    ["It is widely regarded as a masterpiece", "Critics hailed it as brilliant, and it won major awards"],
];

pub const SETTINGS: [&str; 10] = [
    "a rainy harbour town",
    "a remote mountain village",
    "a crowded modern city",
    "a quiet suburb",
    "a border town",
    "an island cut off by winter",
    "a fading seaside resort",
    "the old quarter of a capital",
    "a mining settlement",
    "a railway junction far from anywhere",
];

pub const HEROES: [&str; 10] = [
    "a stubborn schoolteacher",
    "a retired detective",
    "two childhood friends",
    "a young engineer",
    "a widowed doctor",
    "a restless journalist",
    "an orphaned apprentice",
    "a disgraced officer",
    "a travelling salesman",
    "a clever waitress",
];

pub const ADJECTIVES: [&str; 24] = [
    "Amber",
    "Broken",
    "Crooked",
    "Distant",
    "Endless",
    "Forgotten",
    "Gilded",
    "Hidden",
    "Idle",
    "Jade",
    "Last",
    "Midnight",
    "Narrow",
    "Open",
    "Pale",
    "Quiet",
    "Restless",
    "Scarlet",
    "Twisted",
    "Unlikely",
    "Velvet",
    "Wandering",
    "Yellow",
    "Second",
];

pub const PLACES: [&str; 16] = [
    "Aldermoor",
    "Brackwater",
    "Corvane",
    "Dunmere",
    "Eastwick Falls",
    "Ferrowell",
    "Garrick Bay",
    "Hollin Street",
    "Istrel",
    "Juniper Hill",
    "Kestrel Point",
    "Lowmarsh",
    "Mirefield",
    "Norvale",
    "Oakhaven",
    "Port Selwyn",
];

pub const NAMES: [&str; 16] = [
    "Adela", "Bertram", "Celia", "Dorian", "Edith", "Felix", "Greta", "Horace", "Imogen", "Jasper", "Kitty", "Leopold",
    "Maud", "Nestor", "Ottilie", "Percy",
];

pub const OCCUPATIONS: [&str; 12] = [
    "artist",
    "college/grad student",
    "doctor/health care",
    "executive/managerial",
    "farmer",
    "homemaker",
    "lawyer",
    "programmer",
    "retired",
    "sales/marketing",
    "technician/engineer",
    "writer",
];

pub const AGES: [&str; 7] = ["under 18", "18-24", "25-34", "35-44", "45-49", "50-55", "56+"];
