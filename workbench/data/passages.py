"""Paragraphs of real text to measure on, from public-domain books of Bronte, Darwin and Du Bois."""

import re
from pathlib import Path

from workbench.errors import WorkbenchError

TEXTS = (
    # Bronte
    "Diana had a voice toned, to my ear, like the cooing of a dove. She possessed eyes whose gaze "
    "I delighted to encounter. Her whole face seemed to me full of charm. Mary's countenance was "
    "equally intelligent--her features equally pretty; but her expression was more reserved, and "
    "her manners, though gentle, more distant. Diana looked and spoke with a certain authority: "
    "she had a will, evidently. It was my nature to feel pleasure in yielding to an authority "
    "supported like hers, and to bend, where my conscience and self-respect permitted, to an "
    "active will.",
    # Bronte
    "Away Caroline went, across some very sequestered fields and through some quite hidden lanes, "
    "to Fieldhead. She glided quickly under the green hedges and across the greener leas. There "
    "was no dust, no moisture, to soil the hem of her stainless garment, or to damp her slender "
    "sandal. After the late rains all was clean, and under the present glowing sun all was dry. "
    "She walked fearlessly, then, on daisy and turf, and through thick plantations; she reached "
    "Fieldhead, and penetrated to Miss Keeldar's dressing-room.",
    # Bronte
    "Hardly less plain was it that my brain was not yet settled; for, as I gazed at the blue "
    "arm-chair, it appeared to grow familiar; so did a certain scroll-couch, and not less so the "
    "round centre-table, with a blue-covering, bordered with autumn-tinted foliage; and, above "
    "all, two little footstools with worked covers, and a small ebony-framed chair, of which the "
    "seat and back were also worked with groups of brilliant flowers on a dark ground.",
    # Darwin
    "The fertility, both of first crosses and of hybrids, is more easily affected by unfavourable "
    "conditions, than is the fertility of pure species. But the degree of fertility is likewise "
    "innately variable; for it is not always the same when the same two species are crossed under "
    "the same circumstances, but depends in part upon the constitution of the individuals which "
    "happen to have been chosen for the experiment. So it is with hybrids, for their degree of "
    "fertility is often found to differ greatly in the several individuals raised from seed out "
    "of the same capsule and exposed to exactly the same conditions.",
    # Darwin
    "We have now seen that scorn, disdain, contempt, and disgust are expressed in many different "
    "ways, by movements of the features, and by various gestures; and that these are the same "
    "throughout the world. They all consist of actions representing the rejection or exclusion of "
    "some real object which we dislike or abhor, but which does not excite in us certain other "
    "strong emotions, such as rage or terror; and through the force of habit and association "
    "similar actions are performed, whenever any analogous sensation arises in our minds.",
    # Darwin
    "But it is important to remark that, whether Gratiolet was right or wrong in his hypothesis "
    "respecting the relative order of appearance of the temporal and frontal sulci, the fact "
    "remains; that before either temporal or frontal sulci, appear, the foetal brain of man "
    "presents characters which are found only in the lowest group of the Primates (leaving out "
    "the Lemurs); and that this is exactly what we should expect to be the case, if man has "
    "resulted from the gradual modification of the same form as that from which the other "
    "Primates have sprung.",
    # Du Bois
    "St. Louis sprawls where mighty rivers meet,--as broad as Philadelphia, but three stories "
    "high instead of two, with wider streets and dirtier atmosphere, over the dull-brown of wide, "
    "calm rivers. The city overflows into the valleys of Illinois and lies there, writhing under "
    "its grimy cloud. The other city is dusty and hot beyond all dream,--a feverish Pittsburg in "
    "the Mississippi Valley--a great, ruthless, terrible thing! It is the sort that crushes man "
    "and invokes some living superman,--a giant of things done, a clang of awful accomplishment.",
    # Du Bois
    "Later investigation has shown that these buildings were in many cases carefully planned and "
    "built fortifications. At Niekerk, for instance, nine or ten hills are fortified on "
    "concentric walls thirty to fifty feet in number, with a place for the village at the top. "
    "The buildings are forts, miniature citadels, and also workshops and cattle kraals. Iron "
    "implements and handsome pottery were found here, and close to the Zambesi there are "
    "extraordinary fortifications. Farther south at Inyanga there is less strong defense, and at "
    "Umtali there are no fortifications, showing that builders feared invasion from the north.",
)


def passages(text: str) -> list[str]:
    """The paragraphs of a text, split at blank lines."""
    return [part.strip() for part in re.split(r"\n\s*\n", text) if part.strip()]


def read_passages(path: Path) -> list[str]:
    """The paragraphs of a text file, split at blank lines.

    Raises:
        WorkbenchError: When the file cannot be read as text, or is blank.
    """
    try:
        texts = passages(path.expanduser().read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise WorkbenchError(
            f"{path} cannot be read as text ({error}); give a file in UTF-8."
        ) from error
    if not texts:
        raise WorkbenchError(f"{path} holds no text; write texts with a blank line between them.")
    return texts
