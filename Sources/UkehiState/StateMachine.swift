// What embedders implement to replicate state of their own.

public import UkehiBase

/// What a state machine is told beside the command. The same on every replica.
public struct CommandContext: Sendable {
    public var region: RegionID
    public var index: LogIndex
    public var term: Term
    /// The region's logged time, nanoseconds since 1970: the only clock a state machine may use.
    public var time: UInt64
    /// The region's revision, raised by this command: unique within the region, always growing.
    public var revision: UInt64
    /// The key the command was routed by.
    public var key: Bytes

    public init(
        region: RegionID, index: LogIndex, term: Term, time: UInt64, revision: UInt64, key: Bytes
    ) {
        self.region = region
        self.index = index
        self.term = term
        self.time = time
        self.revision = revision
        self.key = key
    }
}

/// Takes a state machine's snapshot, piece by piece.
public protocol SnapshotWriter: AnyObject {
    func write(_ bytes: Bytes)
}

/// Gives back a snapshot, in pieces that need not be the ones written; nil at its end.
public protocol SnapshotReader: AnyObject {
    func read() throws -> Bytes?
}

/// Replicated state: one instance per region and node.
///
/// The engine calls an instance from one thread at a time, never twice at once. Its state is written as
/// a snapshot every `raft.snapshot_interval` commands, but not before eight times the last one's bytes of log,
/// or half a minute, have passed since; after a restart a fresh instance is given the last one, and the
/// log from there on.
///
/// **Determinism.** Replicas apply the same commands in the same order and must reach the same
/// state and give the same answers, byte for byte. So `apply` may depend on nothing but the state,
/// the command and the context: no clock but ``CommandContext/time``, no randomness, no hashing
/// order (`Set` and `Dictionary` differ from process to process), no files, no network, no
/// floating point whose result the platform may choose.
///
/// **Memory.** The bytes handed in are slices of larger blocks: copy what is kept
/// (`Bytes(copying:)`, `array`), or the whole block stays alive.
public protocol StateMachine: AnyObject, Sendable {
    /// Carries out one command and answers it. A command that makes no sense is answered, not
    /// trapped on: it is in the log already, and every replica will meet it.
    func apply(_ command: Bytes, _ context: CommandContext) -> Bytes
    /// Answers a read; changes nothing.
    func query(_ request: Bytes) -> Bytes
    /// Writes the whole state, in one order whatever order it was built in: replicas are compared
    /// by the digest of these bytes.
    func writeSnapshot(to writer: any SnapshotWriter)
    /// Replaces the whole state by a snapshot. Called on a fresh instance, which is thrown away if this
    /// throws.
    func restore(from reader: any SnapshotReader) throws
    /// A copy of the state as it is now, whose ``writeSnapshot(to:)`` gives it whatever becomes of this
    /// one: commands go on while it is written, on another thread. Cheap where the state is made of Swift's
    /// values, which copy when written; it runs between two commands, and the node waits for it.
    func copyForSnapshot() -> any StateMachine
}
