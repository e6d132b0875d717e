// What a core wants done: the answer to "what news?" after any number of inputs.

public import UkehiBase

/// Volatile facts worth telling the layer above when they change.
public struct SoftState: Hashable, Sendable {
    public var leader: PeerID
    public var role: Role
    public init(leader: PeerID, role: Role) {
        self.leader = leader
        self.role = role
    }
}

/// A peer's role (Raft §5.1; thesis §9.6 for the pre-candidate).
public enum Role: UInt8, Sendable, Hashable {
    case follower, candidate, leader, preCandidate
}

/// A linearizable read may be served once `index` is applied (Raft §6.4 of the thesis).
public struct ReadState: Hashable, Sendable {
    public var index: LogIndex
    /// The context the read was asked with.
    public var context: Bytes
    public init(index: LogIndex, context: Bytes) {
        self.index = index
        self.context = context
    }
}

/// Work taken from a core at one moment.
///
/// Synchronous mode: persist `hardState`, `entries` and `snapshot`, then send `messages`, apply
/// `committedEntries`, and call `advance()`.
///
/// Asynchronous mode (etcd's AsyncStorageWrites; the node's): `messages` also holds at most one
/// `storageAppend` and one `storageApply`; all other messages may be sent at once. When a storage
/// message is done, deliver its `responses`. Appends of one core complete in order; so do applies.
/// `hardState`, `entries`, `snapshot` and `committedEntries` are then copies for inspection.
public struct Ready: Sendable {
    /// Set when it changed.
    public var softState: SoftState?
    /// Set when it changed.
    public var hardState: HardState?
    public var readStates: [ReadState] = []
    public var entries: [Entry] = []
    public var snapshot: Snapshot?
    public var committedEntries: [Entry] = []
    public var messages: [Message] = []
    /// Whether what is to be persisted must be durable before anything depends on it.
    public var mustSync = false

    public init() {}
}
