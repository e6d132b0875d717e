// The durable part of one region's log, as the core reads it.

public import UkehiBase

/// Why a part of the log cannot be given.
public enum LogStorageError: Error, Hashable, Sendable {
    /// Compacted away: send a snapshot instead (etcd: ErrCompacted).
    case compacted
    /// Past the last entry (etcd: ErrUnavailable).
    case unavailable
    /// Not in memory; a read was started, and the core is told by
    /// ``RawNode/storageFetched()`` to try again. Never thrown for `term(at:)`.
    case temporarilyUnavailable
    /// A snapshot is being made; try again (etcd: ErrSnapshotTemporarilyUnavailable).
    case snapshotTemporarilyUnavailable
}

/// What is durable of a region's log. A class to be subclassed: the core calls it on its hot path,
/// where a virtual call is cheaper than an existential and needs no specialisation across modules.
///
/// Single-threaded, like the core that owns it. Invariant: firstIndex <= lastIndex + 1; the entry
/// before firstIndex is known by its term alone.
open class LogStorage {
    public init() {}

    /// The state of the last durable write, and the membership as of the applied index.
    open func initialState() -> (hardState: HardState, configuration: ConfigurationState) {
        fatalError("a log storage gives its initial state")
    }
    /// The first index that ``entries(from:to:maxBytes:)`` can give.
    open var firstIndex: LogIndex { fatalError("a log storage has a first index") }
    open var lastIndex: LogIndex { fatalError("a log storage has a last index") }
    /// The term of an entry in `firstIndex - 1 ... lastIndex`.
    open func term(at index: LogIndex) throws(LogStorageError) -> Term {
        fatalError("a log storage knows its terms")
    }
    /// Entries in `from..<to` from the first on: at least one, and no more than `maxBytes` of records
    /// (``Entry/recordBytes``) in all.
    open func entries(
        from: LogIndex, to: LogIndex, maxBytes: UInt64
    ) throws(LogStorageError) -> [Entry] {
        fatalError("a log storage gives entries")
    }
    /// The newest snapshot. One whose membership lacks the peer it is for is not sent: the core asks again
    /// with the next heartbeat.
    open func snapshot() throws(LogStorageError) -> Snapshot {
        fatalError("a log storage gives a snapshot")
    }
}
