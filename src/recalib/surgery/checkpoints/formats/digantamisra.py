"""Networks of digantamisra98/Reproducibilty-Challenge-ECANET.

Checkpoints are BangguWu's with an entry ``run_id``; ECA's kernels are adaptive. Other mechanisms are called ``att`` and
come from the Echo library, whose SE has biases. Its CBAM and triplet attention are not in the catalogue: their keys
come out as unexpected. The CIFAR networks are akamaster's.
"""

from recalib.surgery.checkpoints.format import Format, Rule
from recalib.surgery.checkpoints.formats import akamaster, bangguwu

SOURCE = "digantamisra98/Reproducibilty-Challenge-ECANET"

ECA = Format(name="digantamisra", source=SOURCE, sign=bangguwu.FORMAT.sign, rules=bangguwu.RULES, beside="run_id")

ECHO = Format(
    name="digantamisra",
    source=SOURCE,
    sign=r".+\.att\..+",
    rules=(
        Rule(r"(.+)\.att\.ChannelGate\.gate_c\.gate_c_fc_0\.(.+)", r"\1.attention.fc1.\2"),
        Rule(r"(.+)\.att\.ChannelGate\.gate_c\.gate_c_fc_final\.(.+)", r"\1.attention.fc2.\2"),
        *akamaster.NETWORK,
    ),
)
