"""Operations that a served graph should not hold: what they do, and what to do instead.

The names are those that TensorFlow 2.21 registers. This is a lint and no sandbox: it names what is known to reach out
of the graph, and whoever wants to hide something will find another way.
"""

import re
from dataclasses import dataclass


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
    r"|RestoreSlice|DTensorRestoreV2|(TextLine|TFRecord|FixedLengthRecord)Dataset(V2)?|(Experimental)?LMDBDataset"
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
    r"Rpc\w+|TryRpc|DataServiceDataset(V[234])?|RegisterDataset(V2)?|RemoteCall|_?Send|_?Recv|_HostSend|_HostRecv"
    r"|Collective\w+|(Experimental)?BigQuery\w*|ConfigureDistributedTPU|_?Nccl\w+",
)
_DEBUG = Rule(
    "unsafe",
    "sends tensors to a debugger, a file or an address",
    "export without tfdbg (tf.debugging.experimental.enable_dump_debug_info)",
    r"DebugIdentity(V[23])?|DebugNumericSummary(V2)?|DebugNanCount|DebugGradient\w+",
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
    r"Cudnn\w+|_?TPU\w+|\w*TPUEmbedding\w*",
)
_XLA = Rule(
    "error",
    "needs XLA, which TensorFlow Serving's binary has not",
    "export a function without jit_compile=True",
    r"XlaLaunch(V2)?|_XlaRun|_XlaCompile|XlaCallModule|XlaClusterOutput",
)
RULES = (_WRITES, _READS, _PYTHON, _NETWORK, _DEBUG, _PRINTS, _DEVICE, _XLA)

# What loads the weights reads files, and what saves them writes some; the second never runs in a server.
RESTORES = re.compile(r"RestoreV2|Restore|RestoreSlice")
# A vocabulary is read from its file when the model is loaded.
READS_ASSET = re.compile(r"InitializeTableFromTextFile(V2)?")


def rule_of(operation: str) -> Rule | None:
    """The rule that an operation breaks, or None."""
    return next((rule for rule in RULES if rule.holds(operation)), None)
