"""The vocabulary of scenes and captions, with synonyms, and the part of it that the toybox uses.

The tiny CLIP is trained on the whole vocabulary; the toybox uses the first entries of each table.
"""

from types import MappingProxyType

# Key -> the words for it in captions.
COLOURS = MappingProxyType(
    {
        "red": ("red", "crimson"),
        "green": ("green",),
        "blue": ("blue",),
        "yellow": ("yellow",),
        "orange": ("orange",),
        "purple": ("purple", "violet"),
        "pink": ("pink",),
        "black": ("black",),
        "white": ("white",),
        "brown": ("brown",),
        "turquoise": ("turquoise", "cyan"),
        "olive": ("olive",),
    }
)
SHAPES = MappingProxyType(
    {
        "circle": ("circle", "disc"),
        "square": ("square", "box"),
        "triangle": ("triangle",),
        "star": ("star",),
        "cross": ("cross", "plus"),
        "heart": ("heart",),
        "ring": ("ring", "hoop"),
        "moon": ("moon", "crescent"),
        "diamond": ("diamond", "rhombus"),
        "arrow": ("arrow",),
    }
)
GROUNDS = MappingProxyType(
    {
        "stripes": ("a striped background", "stripes"),
        "checks": ("a checkered background", "a chessboard"),
        "dots": ("a dotted background", "a pattern of dots"),
        "bricks": ("a brick wall", "bricks"),
        "waves": ("a wavy background", "waves"),
        "plain": ("a plain background", "an empty background"),
        "grid": ("a grid", "graph paper"),
        "zigzag": ("a zigzag background", "a zigzag pattern"),
    }
)
SIZES = MappingProxyType({"large": ("large", "big", "huge"), "small": ("small", "little", "tiny")})
COUNTS = MappingProxyType(
    {1: ("a", "one", "a single"), 2: ("two", "a pair of"), 3: ("three",), 4: ("four",)}
)
PLACES = MappingProxyType(
    {
        "left": ("on the left", "at the left edge"),
        "right": ("on the right", "at the right edge"),
        "top": ("at the top", "up high"),
        "bottom": ("at the bottom", "down low"),
        "middle": ("in the middle", "in the centre"),
    }
)
# The motion of one figure; for several, the first verb loses its s.
MOTIONS = MappingProxyType(
    {
        "right": ("slides to the right", "moves right"),
        "left": ("slides to the left", "moves left"),
        "up": ("rises", "moves up"),
        "down": ("sinks", "moves down"),
        "shake": ("shakes", "trembles"),
        "still": ("stands still", "rests"),
    }
)
SOUNDS = MappingProxyType(
    {
        "low": ("a low tone plays", "a deep hum sounds"),
        "high": ("a high tone plays", "a whistle sounds"),
        "beeps": ("short beeps repeat", "something beeps"),
        "noise": ("static hisses", "there is a hiss"),
        "siren": ("a siren wails", "a siren is heard"),
        "drum": ("a drum beats", "drumming is heard"),
        "bark": ("a dog barks", "barking is heard"),
        "bell": ("a bell rings", "a bell is heard"),
    }
)
READ = ("a sign reads {}", "a sign says {}", "the sign says {}", "{} is written on a sign")
HEARD = ("a voice says {}", "someone says {}", "the word {} is spoken", "someone mentions {}")
# Of two figures, the one that is there while a sound is heard, and the other.
SOUNDING = ("{sound} while {figure} {is_} there", "{figure} {is_} there while {sound}")
QUIET = ("{figure} {is_} quiet", "{figure} {is_} silent")

SIGNS = (
    *("COFFEE", "MUSEUM", "STATION", "BAKERY", "GARDEN", "HOTEL", "LIBRARY", "MARKET"),
    *("PHARMACY", "SCHOOL", "TICKETS", "BEACH", "OPEN", "CLOSED", "PARKING", "HOSPITAL"),
    *("CINEMA", "BANK", "POLICE", "AIRPORT", "FERRY", "TAXI", "EXIT", "STOP"),
    *("SALE", "PIZZA", "BOOKS", "DANGER", "PRIVATE", "SUMMER", "WINTER", "FARM"),
    *("FACTORY", "OFFICE", "POST", "THEATRE", "STADIUM", "CASTLE", "BRIDGE", "HARBOUR"),
)
SPOKEN = (
    *("dragon", "banana", "spider", "guitar", "tiger", "rocket", "tomato", "computer"),
    *("flower", "camera", "chicken", "piano", "saxophone", "window", "pencil", "mountain"),
    *("potato", "pancake", "hammer", "river", "candle", "elephant", "fountain", "cucumber"),
    *("umbrella", "vampire", "pumpkin", "sandwich", "ladybug", "blanket", "carpet", "cookie"),
    *("pineapple", "helicopter", "mushroom", "mirror", "penguin", "rabbit", "turtle", "snowman"),
)
# Words on signs and in speech that only the tiny CLIP's training has, so that its text tower knows
# more words than the benchmark uses.
OTHER_WORDS = (
    *("apple", "bottle", "butter", "cheese", "circus", "cloud", "desert", "engine", "feather"),
    *("forest", "ghost", "hotel", "island", "jacket", "jungle", "ladder", "letter", "lion"),
    *("magic", "medicine", "milk", "money", "music", "needle", "ocean", "office", "orchestra"),
    *("paper", "parrot", "pepper", "picture", "pillow", "planet", "pocket", "prince", "queen"),
    *("radio", "school", "shadow", "sheep", "silver", "snow", "soldier", "spoon", "sugar"),
    *("table", "thunder", "ticket", "tower", "train", "village", "violin", "wagon", "whale"),
)

# What the toybox uses: the first entries of each table.
TOYBOX_COLOURS = tuple(COLOURS)[:8]
TOYBOX_SHAPES = tuple(SHAPES)[:8]
TOYBOX_GROUNDS = tuple(GROUNDS)[:6]
TOYBOX_COUNTS = (1, 2)
