// What commands and reads answer.

public import UkehiBase

/// What became of one command, the same on every replica.
public enum CommandResult: Hashable, Sendable {
    /// Carried out; what it wrote has this version.
    case applied(version: UInt64)
    /// An increment was carried out.
    case counter(value: Int64, version: UInt64)
    /// Nothing was changed: the key's value has this version, or is absent.
    case conditionFailed(current: UInt64?)
    /// What the embedder's state machine answered.
    case response(Bytes)
    /// Nothing was changed: the command is at fault.
    case invalid(CommandError)
    /// Nothing was changed: the region's range has changed since the command was proposed. Route
    /// it anew by its key.
    case staleEpoch
    /// This request changed nothing: the region does not know the command's session, or not any more what
    /// became of the command, which may have been carried out when it was sent before. A session that was
    /// opened at `openAt`, in milliseconds since 1970, would be taken.
    case sessionExpired(openAt: UInt64)

    /// The version written, if the command was carried out by the key-value machine.
    public var version: UInt64? {
        switch self {
        case .applied(let version), .counter(_, let version): version
        default: nil
        }
    }
    /// The counter's new value, if the command was an increment that was carried out.
    public var counter: Int64? {
        if case .counter(let value, _) = self { value } else { nil }
    }
}

/// A value and the version of its last write.
public struct VersionedValue: Hashable, Sendable {
    public var value: Bytes
    public var version: UInt64
    public init(value: Bytes, version: UInt64) {
        self.value = value
        self.version = version
    }
}

/// One pair of a scan.
public struct KeyValue: Hashable, Sendable {
    public var key: Bytes
    public var value: Bytes
    public var version: UInt64
    public init(key: Bytes, value: Bytes, version: UInt64) {
        self.key = key
        self.value = value
        self.version = version
    }
}

/// A part of a scan, of one region.
public struct ScanPage: Hashable, Sendable {
    /// Ascending by key.
    public var pairs: [KeyValue]
    /// Where to go on; nil when the asked range is exhausted. At a region's end it is the next
    /// region's first key.
    public var next: Bytes?
    public init(pairs: [KeyValue], next: Bytes?) {
        self.pairs = pairs
        self.next = next
    }
    /// Whether the asked range goes on past this page.
    public var hasMore: Bool { next != nil }
    /// Of its keys and values.
    package var byteCount: Int { pairs.reduce(0) { $0 + $1.key.count + $1.value.count } }
}

/// A region's state in 128 bits, equal on all replicas that have applied the same index.
///
/// Not cryptographic: it finds mistakes and decay, not forgery.
public struct RegionDigest: Hashable, Sendable {
    public var region: RegionID
    public var applied: LogIndex
    public var high: UInt64
    public var low: UInt64
    public init(region: RegionID, applied: LogIndex, high: UInt64, low: UInt64) {
        self.region = region
        self.applied = applied
        self.high = high
        self.low = low
    }
}

/// What is read of one region.
package enum ReadRequest: Sendable {
    case get(Bytes)
    /// Keys in `lower..<upper`, at most `limit` pairs and about 1 MiB; empty `upper`: to the end.
    case scan(lower: Bytes, upper: Bytes, limit: Int)
    /// A read of the embedder's state machine.
    case query(key: Bytes, Bytes)
}

/// How far a read may go.
package enum ReadTier: Sendable, Hashable {
    /// Memory and the block cache; what is not there is ``ReadOutcome/wouldBlock``.
    case cacheOnly
    case any
    /// As ``any``, for reading much of the store once: what is read does not take the place of what the
    /// cache holds, and is fetched ahead.
    case once
}

/// What a read found.
package enum ReadOutcome: Sendable {
    case value(VersionedValue?)
    case scan(ScanPage)
    case query(Bytes)
    /// The answer is not in memory: ask again with ``ReadTier/any`` where blocking is allowed.
    case wouldBlock
    /// A value that was asked for expires then, which the clock has passed and logged time has not: an entry has to
    /// carry the clock into the region first.
    case due(UInt64)
    case failed(StateError)
}
