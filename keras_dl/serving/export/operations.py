"""Operations that a served graph should not contain: their effects, and alternatives.

The names are those registered by TensorFlow 2.21. This is a linter, not a sandbox: it finds operations known to reach
outside the graph, but does not stop a deliberate attack.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass

from tensorflow.core.framework import node_def_pb2


@dataclass(frozen=True)
class Rule:
    """A problem with a family of operations, whose names the pattern matches.

    `level` is "unsafe", "error" or "warning", `what` the problem, as a predicate of the operation's name, `fix` what to
    do instead.
    """

    level: str
    what: str
    fix: str
    pattern: str

    def matches(self, operation: str) -> bool:
        """Returns True if the rule applies to the operation."""
        return re.fullmatch(self.pattern, operation) is not None


_WRITES = Rule(
    "unsafe",
    "writes files on the server",
    "leave it out of the signature, and return the content to the client instead",
    r"WriteFile|SaveV2|Save|SaveSlices|MergeV2Checkpoints|SaveDataset(V2)?|DistributedSave"
    r"|(Experimental)?DatasetToTFRecord|CreateSummary(File|Db)Writer|SummaryWriter|ImportEvent|DumpTensor"
    r"|Write(Summary|ScalarSummary|HistogramSummary|ImageSummary|AudioSummary|GraphSummary|RawProtoSummary)"
    r"|Snapshot(Chunk)?Dataset(V2)?|CalibrationStatisticsSaver",
)
_READS = Rule(
    "unsafe",
    "reads files on the server",
    "make the content an input; keep a vocabulary as an asset (StringLookup, tf.saved_model.Asset)",
    r"ReadFile|MatchingFiles|(WholeFile|TextLine|FixedLengthRecord|TFRecord|LMDB)Reader(V2)?|RestoreV2|Restore"
    r"|RestoreSlice|RecordInput|Skipgram|DTensorRestoreV2|(TextLine|TFRecord|FixedLengthRecord)Dataset(V2)?|(Experimental)?LMDBDataset"
    r"|(Experimental)?CSVDataset(V2)?|(Experimental)?SqlDataset|(Experimental)?MatchingFilesDataset|LoadDataset"
    r"|SnapshotDatasetReader|SnapshotNestedDatasetReader|ListSnapshotChunksDataset|ImmutableConst"
    r"|InitializeTableFromTextFile(V2)?|GenerateVocabRemapping|LoadAndRemapMatrix|FileSystemSetConfiguration",
)
_PYTHON = Rule(
    "unsafe",
    "runs Python code of the process that created it, which a server does not have",
    "use TensorFlow operations; tf.py_function and tf.numpy_function only work in their own process",
    r"PyFunc|PyFuncStateless|EagerPyFunc",
)
_NETWORK = Rule(
    "unsafe",
    "communicates with other machines",
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
    "terminates the server process",
    "reject inputs with tf.debugging.assert_*, which only fails the request",
    r"Abort|WorkerHeartbeat",
)
_HIDES = Rule(
    "unsafe",
    "runs a serialized graph, which cannot be inspected",
    "create the dataset in the signature's function",
    r"DatasetFromGraph|DeserializeIterator",
)
_PRINTS = Rule(
    "warning", "writes to the server's log on every request", "leave tf.print out of the signature", r"PrintV2|Print"
)
_DEVICE = Rule(
    "error",
    "requires a GPU or a TPU, and fails on a CPU",
    "build the layer with use_cudnn=False, or export without a visible GPU",
    r"Cudnn\w+|\w*TPU\w*",
)
_XLA = Rule(
    "error",
    "requires XLA, which TensorFlow Serving's binary does not include",
    "export a function without jit_compile=True",
    r"XlaLaunch(V2)?|_XlaRun|_XlaCompile|XlaCallModule|XlaClusterOutput",
)
RULES = (_WRITES, _READS, _PYTHON, _NETWORK, _DEBUG, _ENDS, _HIDES, _PRINTS, _DEVICE, _XLA)

# Read the weights from a file, whose name is the first input.
RESTORES = re.compile(r"RestoreV2|Restore|RestoreSlice")
# Reads a vocabulary from a file, whose name is the second input, when the model is loaded.
READS_ASSET = re.compile(r"InitializeTableFromTextFile(V2)?")

_OWN_STREAM = re.compile(rb"stdout|stderr|log\(\w+\)|")
_OWN_DESCRIPTOR = re.compile(rb"local://|bytes://.*|", re.DOTALL)


def rule_of(node: node_def_pb2.NodeDef, constant: Callable[[int], bytes | None]) -> Rule | None:
    """Returns the rule that a node breaks, or None; `constant` returns the string of an input if it is a constant."""
    match node.op:
        case "PrintV2" if not _OWN_STREAM.fullmatch(_text(node, "output_stream")):
            return _WRITES
        case "CacheDataset" | "CacheDatasetV2":  # without a file name, the cache is in memory
            return None if constant(1) == b"" else _WRITES
        case "FixedUnigramCandidateSampler":
            return _READS if _text(node, "vocab_file") else None
        case "EncodeProto" | "DecodeProtoV2":
            return None if _OWN_DESCRIPTOR.fullmatch(_text(node, "descriptor_source")) else _READS
    return next((rule for rule in RULES if rule.matches(node.op)), None)


def _text(node, attribute):
    return node.attr[attribute].s if attribute in node.attr else b""
