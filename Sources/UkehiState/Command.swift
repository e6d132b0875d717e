// What clients ask a region to change, as values. The hot path never builds these: it encodes
// records straight from pointers (CommandRecord.swift).

public import UkehiBase

/// What a key must hold for a conditional command to be carried out.
///
/// Judged against everything applied before the command, at the region's logged time: a value that
/// has expired is absent.
public enum Expectation: Hashable, Sendable {
    /// There is no value.
    case absent
    /// The value's version is this one.
    case version(UInt64)
    /// The value is equal, byte by byte.
    case value(Bytes)
}

/// One change to the keys of one region.
///
/// Each command that is carried out raises the region's revision by one; what it writes has that
/// revision as its version. A command whose condition fails, or that is at fault, changes nothing.
/// `expiresAt` is in nanoseconds since 1970 and compared with the region's logged time, which is carried on to
/// the leader's clock before a linearizable read is answered with what has expired by that.
public enum Command: Hashable, Sendable {
    /// Sets a key.
    case put(key: Bytes, value: Bytes, expiresAt: UInt64? = nil)
    /// Removes a key; succeeds if it is not there.
    case delete(key: Bytes)
    /// Removes the keys in `lower..<upper`, all in one region; empty `upper`: to the end of keys.
    case deleteRange(lower: Bytes, upper: Bytes)
    /// Sets a key, or removes it (`value` nil), if it holds what is expected.
    case compareAndSet(
        key: Bytes, expected: Expectation, value: Bytes?, expiresAt: UInt64? = nil)
    /// Adds to a decimal integer, absent counting as 0; keeps its expiry. See ``counterValue(_:)``.
    case increment(key: Bytes, by: Int64)
    /// A condition; only in a batch.
    case check(key: Bytes, expected: Expectation)
    /// All or nothing, of one region: checks, puts, deletes, range deletes and increments. Every
    /// check is judged against the state before the batch; the writes then see each other in order
    /// and share one version.
    case batch([Command])
    /// A command of the embedder's state machine; `key` decides the region.
    case user(key: Bytes, body: Bytes)

    /// The key that decides the region.
    public var key: Bytes {
        switch self {
        case .put(let key, _, _), .delete(let key), .deleteRange(let key, _),
            .compareAndSet(let key, _, _, _), .increment(let key, _), .check(let key, _),
            .user(let key, _):
            key
        case .batch(let commands): commands.first?.key ?? Bytes()
        }
    }

    /// A counter's value as it is stored: decimal digits, a minus sign before them if negative.
    ///
    /// Text, because every client and tool can read it, and `INCR` of the RESP protocol means it.
    public static func counterValue(_ value: Int64) -> Bytes { Bytes("\(value)") }
}
