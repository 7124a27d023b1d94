"""Operations that a served graph should not hold: what they do, and what to do instead.

The names are those that TensorFlow 2.21 registers. This is a lint and no sandbox: it names what is known to reach out
of the graph, and whoever wants to hide something will find another way.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass

from tensorflow.core.framework import node_def_pb2


@dataclass(frozen=True)
class Rule:
    """What is wrong with a family of operations.

    Attributes:
        level: "unsafe", "error" or "warning".
        what: in words, behind the operation's name.
        fix: in words.
        pattern: of the whole name of the operation.
    """

    level: str
    what: str
    fix: str
    pattern: str

    def holds(self, operation: str) -> bool:
        """Whether the operation is one of them."""
        return re.fullmatch(self.pattern, operation) is not None


_WRITES = Rule(
    "unsafe",
    "writes files on the server",
    "leave it out of the signature: write what a client should keep to the answer",
    r"WriteFile|SaveV2|Save|SaveSlices|MergeV2Checkpoints|SaveDataset(V2)?|DistributedSave"
    r"|(Experimental)?DatasetToTFRecord|CreateSummary(File|Db)Writer|SummaryWriter|ImportEvent|DumpTensor"
    r"|Write(Summary|ScalarSummary|HistogramSummary|ImageSummary|AudioSummary|GraphSummary|RawProtoSummary)"
    r"|Snapshot(Chunk)?Dataset(V2)?|CalibrationStatisticsSaver",
)
_READS = Rule(
    "unsafe",
    "reads files of the server",
    "let the client send the content as an input; keep a vocabulary as an asset (StringLookup, tf.saved_model.Asset)",
    r"ReadFile|MatchingFiles|(WholeFile|TextLine|FixedLengthRecord|TFRecord|LMDB)Reader(V2)?|RestoreV2|Restore"
    r"|RestoreSlice|RecordInput|Skipgram|DTensorRestoreV2|(TextLine|TFRecord|FixedLengthRecord)Dataset(V2)?|(Experimental)?LMDBDataset"
    r"|(Experimental)?CSVDataset(V2)?|(Experimental)?SqlDataset|(Experimental)?MatchingFilesDataset|LoadDataset"
    r"|SnapshotDatasetReader|SnapshotNestedDatasetReader|ListSnapshotChunksDataset|ImmutableConst"
    r"|InitializeTableFromTextFile(V2)?|GenerateVocabRemapping|LoadAndRemapMatrix|FileSystemSetConfiguration",
)
_PYTHON = Rule(
    "unsafe",
    "runs Python of the process that made it, which a server has not",
    "write it in TensorFlow operations; tf.py_function and tf.numpy_function cannot leave their process",
    r"PyFunc|PyFuncStateless|EagerPyFunc",
)
_NETWORK = Rule(
    "unsafe",
    "speaks to other machines",
    "leave it out of the signature",
    r"\w*Rpc\w*|DataServiceDataset(V[234])?|RegisterDataset(V2)?|RemoteCall|_?Send|_?Recv|_HostSend|_HostRecv"
    r"|Collective\w+|(Experimental)?BigQuery\w*|_?Nccl\w+",
)
_DEBUG = Rule(
    "unsafe",
    "sends tensors to a debugger, a file or an address",
    "export without tfdbg (tf.debugging.experimental.enable_dump_debug_info)",
    r"Debug\w+",
)
_ENDS = Rule(
    "unsafe",
    "ends the server's process",
    "refuse an input with tf.debugging.assert_*, which ends the request alone",
    r"Abort|WorkerHeartbeat",
)
_HIDES = Rule(
    "unsafe",
    "runs a graph that stands in a text, where nothing can be seen of it",
    "make the dataset in the signature's own function",
    r"DatasetFromGraph|DeserializeIterator",
)
_PRINTS = Rule(
    "warning",
    "writes to the server's log with every request",
    "leave tf.print out of the signature",
    r"PrintV2|Print",
)
_DEVICE = Rule(
    "error",
    "needs a GPU or a TPU, and fails on a CPU",
    "build the layer with use_cudnn=False, or export where no GPU is visible",
    r"Cudnn\w+|\w*TPU\w*",
)
_XLA = Rule(
    "error",
    "needs XLA, which TensorFlow Serving's binary has not",
    "export a function without jit_compile=True",
    r"XlaLaunch(V2)?|_XlaRun|_XlaCompile|XlaCallModule|XlaClusterOutput",
)
RULES = (_WRITES, _READS, _PYTHON, _NETWORK, _DEBUG, _ENDS, _HIDES, _PRINTS, _DEVICE, _XLA)

# What loads the weights reads their files, whose name is its first input.
RESTORES = re.compile(r"RestoreV2|Restore|RestoreSlice")
# A vocabulary is read from its file, the second input, when the model is loaded.
READS_ASSET = re.compile(r"InitializeTableFromTextFile(V2)?")

_OWN_STREAM = re.compile(rb"stdout|stderr|log\(\w+\)|")
_OWN_DESCRIPTOR = re.compile(rb"local://|bytes://.*|", re.DOTALL)


def rule_of(node: node_def_pb2.NodeDef, constant: Callable[[int], bytes | None]) -> Rule | None:
    """The rule that a node breaks, or None.

    Args:
        node: of a graph.
        constant: of the index of one of its inputs: the text that the graph holds for it, None if it is computed.
    """
    match node.op:
        case "PrintV2" if not _OWN_STREAM.fullmatch(_text(node, "output_stream")):
            return _WRITES
        case "CacheDataset" | "CacheDatasetV2":  # without a name it is kept in memory
            return None if constant(1) == b"" else _WRITES
        case "FixedUnigramCandidateSampler":
            return _READS if _text(node, "vocab_file") else None
        case "EncodeProto" | "DecodeProtoV2":
            return None if _OWN_DESCRIPTOR.fullmatch(_text(node, "descriptor_source")) else _READS
    return next((rule for rule in RULES if rule.holds(node.op)), None)


def _text(node, attribute):
    return node.attr[attribute].s if attribute in node.attr else b""
