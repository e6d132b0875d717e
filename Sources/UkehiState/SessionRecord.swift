// Sessions: what makes a command that is sent twice be carried out once (RULES 75).
//
//   session   | opened: milliseconds since 1970, 42 bits | random, 22 bits |     u64
//   sequence  | salt, 24 bits | waiting, 8 bits | number from 1 on, 32 bits |    u64
//
// A client numbers the commands of its session. `waiting` says how many numbers below this one it may
// still ask again: all under `number - waiting` have been answered or given up, and their results may
// be forgotten. So a client that asks one thing at a time costs one remembered result, not a window.
//
// The salt is not part of the name: it is chosen with the session and compared, so that two clients
// that draw the same name are told to draw again, and neither gets the other's results.
//
// What is stored of a session, under the region's id and the session's (StateStore.swift), and is in
// snapshots as it is:
//
//   session | version u8 = 1 | results u8 | 0 u16 | salt u32 | last use u64: logged time |
//           | floor u32: the least number that may still be asked | result × results |
//   result  | number - floor u8 | kind u8 | content |          ascending by number
//
//   kind  0 applied: version u64 | 1 counter: value i64, version u64 | 2 condition failed: version u64
//         3 condition failed, no key | 5 invalid: error u8
//
// Little-endian. The kinds are those of the wire (UkehiTransport, ResultCodec.swift).

package import UkehiBase

/// Bounds of the table that a region keeps of sessions.
///
/// All replicas of a region evict by these, so that a node with others would come to hold another
/// state: they are no settings. Simulations make them small.
package struct SessionLimits: Hashable, Sendable {
    /// Most sessions a region remembers.
    package var maxSessions = 4096
    /// A session that was not used for so long, by logged time, may be forgotten.
    package var maxIdleNanoseconds: UInt64 = 3_600_000_000_000
    /// A session may have been opened so long after logged time, for its opener's clock may be ahead.
    package var maxAheadMilliseconds: UInt64 = 60_000
    /// Most commands of a session that wait for their results at one time.
    package static let window = 64

    package init() {}

    /// How many sessions make room at once, so that finding them is paid for by several.
    var evictedAtOnce: Int { max(1, maxSessions / 256) }
}

/// The name of a session.
package struct SessionID: Hashable, Sendable {
    package let rawValue: UInt64
    package static let randomBits: UInt64 = 22
    private static let randomMask: UInt64 = 1 << randomBits - 1

    package init(_ rawValue: UInt64) { self.rawValue = rawValue }

    /// A session opened at a time, at most the last one there is.
    package init(openedAt milliseconds: UInt64, random: UInt64) {
        rawValue =
            min(milliseconds, .max >> Self.randomBits) << Self.randomBits
            | random & Self.randomMask
    }

    /// Milliseconds since 1970 by its opener's clock.
    package var opened: UInt64 { rawValue >> Self.randomBits }
}

/// A command's number in its session, and what its client says with it.
package struct SessionSequence: Hashable, Sendable {
    /// 24 bits that belong to the session.
    package let salt: UInt32
    /// How many numbers below this one may still be asked.
    package let waiting: UInt32
    /// From 1 on.
    package let number: UInt32

    package static let maxSalt: UInt32 = 1 << 24 - 1

    package init(salt: UInt32, waiting: Int, number: UInt32) {
        invariant(
            number > 0 && waiting >= 0 && waiting < SessionLimits.window && waiting < number,
            "command \(number) of a session says that \(waiting) before it wait")
        self.salt = salt & Self.maxSalt
        self.waiting = UInt32(waiting)
        self.number = number
    }

    /// Reads what a record carries; nil if no client says so.
    package init?(rawValue: UInt64) {
        salt = UInt32(rawValue >> 40)
        waiting = UInt32(rawValue >> 32 & 0xff)
        number = UInt32(truncatingIfNeeded: rawValue)
        guard number > 0, waiting < UInt32(SessionLimits.window), waiting < number else {
            return nil
        }
    }

    package var rawValue: UInt64 {
        UInt64(salt) << 40 | UInt64(waiting) << 32 | UInt64(number)
    }

    /// The least number that may still be asked.
    var floor: UInt32 { number - waiting }
}

/// What one command of a session came to. A few words without references.
package struct RememberedResult: Hashable, Sendable {
    private enum Kind: UInt8 {
        case applied = 0
        case counter = 1
        case conditionFailed = 2
        case conditionFailedAbsent = 3
        case invalid = 5
        #if BugBank
            case staleEpoch = 6
        #endif
    }
    package let number: UInt32
    private let kind: Kind
    private let error: UInt8
    private let version: UInt64
    private let value: Int64

    private init(
        _ number: UInt32, _ kind: Kind, version: UInt64 = 0, value: Int64 = 0, error: UInt8 = 0
    ) {
        self.number = number
        self.kind = kind
        self.version = version
        self.value = value
        self.error = error
    }

    /// The result of a command that was carried out, or is at fault for ever.
    package init(_ number: UInt32, _ result: CommandResult) {
        switch result {
        case .applied(let version): self.init(number, .applied, version: version)
        case .counter(let value, let version):
            self.init(number, .counter, version: version, value: value)
        case .conditionFailed(let current?):
            self.init(number, .conditionFailed, version: current)
        case .conditionFailed(nil): self.init(number, .conditionFailedAbsent)
        case .invalid(let error): self.init(number, .invalid, error: error.rawValue)
        case .response, .staleEpoch, .sessionExpired:
            #if BugBank
                if PlantedBug.staleEpochRemembered.isPlanted {
                    // Not the result of that name, which would ask itself for ever.
                    self.init(number, Kind.staleEpoch)
                    return
                }
            #endif
            invariant(false, "what was not carried out is remembered: \(result)")
            self.init(number, .invalid)
        }
    }

    package var result: CommandResult {
        switch kind {
        case .applied: .applied(version: version)
        case .counter: .counter(value: value, version: version)
        case .conditionFailed: .conditionFailed(current: version)
        case .conditionFailedAbsent: .conditionFailed(current: nil)
        case .invalid: .invalid(CommandError(rawValue: error) ?? .malformed)
        #if BugBank
            case .staleEpoch: .staleEpoch
        #endif
        }
    }

    static let maxBytes = 18

    func encode(floor: UInt32, into writer: inout ByteWriter) {
        writer.append(UInt8(number - floor))
        writer.append(kind.rawValue)
        switch kind {
        case .applied, .conditionFailed: writer.append(version)
        case .counter:
            writer.append(value)
            writer.append(version)
        case .conditionFailedAbsent: break
        case .invalid: writer.append(error)
        #if BugBank
            case .staleEpoch: break
        #endif
        }
    }

    /// Reads the result at `offset` and moves past it; nil if none stands there.
    init?(_ bytes: UnsafeRawBufferPointer, _ offset: inout Int, floor: UInt32) {
        guard bytes.count - offset >= 2, let kind = Kind(rawValue: bytes[offset + 1]),
            case let (number, overflow) = floor.addingReportingOverflow(UInt32(bytes[offset])),
            !overflow
        else { return nil }
        let content = offset + 2
        let left = bytes.count - content
        switch kind {
        case .applied, .conditionFailed:
            guard left >= 8 else { return nil }
            offset = content + 8
            self.init(number, kind, version: bytes.u64(at: content))
        case .counter:
            guard left >= 16 else { return nil }
            offset = content + 16
            self.init(
                number, kind, version: bytes.u64(at: content + 8),
                value: Int64(bitPattern: bytes.u64(at: content)))
        case .conditionFailedAbsent:
            offset = content
            self.init(number, kind)
        case .invalid:
            guard left >= 1, CommandError(rawValue: bytes[content]) != nil else { return nil }
            offset = content + 1
            self.init(number, kind, error: bytes[content])
        #if BugBank
            case .staleEpoch:
                offset = content
                self.init(number, kind)
        #endif
        }
    }
}

/// What a region remembers of one session.
package struct SessionEntry: Hashable, Sendable {
    package var salt: UInt32
    /// Logged time of the last command that was carried out in it.
    package var lastUse: UInt64
    /// The least number that may still be asked.
    package var floor: UInt32
    /// Ascending by number, from `floor` on, less than a window above it.
    package var results: [RememberedResult] = []

    private static let version: UInt8 = 1
    static let headerBytes = 20
    static let maxBytes = headerBytes + SessionLimits.window * RememberedResult.maxBytes

    package init(salt: UInt32, lastUse: UInt64, floor: UInt32) {
        self.salt = salt
        self.lastUse = lastUse
        self.floor = floor
    }

    package func result(of number: UInt32) -> CommandResult? {
        // Nearly always the last ones are asked.
        results.last { $0.number == number }?.result
    }

    /// Keeps a result and forgets those under the floor that came with its command.
    package mutating func add(_ result: RememberedResult, floor lowest: UInt32, time: UInt64) {
        lastUse = time
        if lowest > floor {
            floor = lowest
            let kept = results.firstIndex { $0.number >= lowest } ?? results.count
            results.removeSubrange(..<kept)
        }
        let place = (results.lastIndex { $0.number < result.number } ?? -1) + 1
        results.insert(result, at: place)
    }

    /// Appends what is stored of it.
    package func encode(into writer: inout ByteWriter) {
        writer.reserve(Self.headerBytes + results.count * RememberedResult.maxBytes)
        writer.append(Self.version)
        writer.append(UInt8(results.count))
        writer.append(UInt16(0))
        writer.append(salt)
        writer.append(lastUse)
        writer.append(floor)
        for result in results { result.encode(floor: floor, into: &writer) }
    }

    /// Reads what is stored; nil if it is not what this program writes.
    package init?(stored bytes: UnsafeRawBufferPointer) {
        guard bytes.count >= Self.headerBytes, bytes[0] == Self.version, bytes.u16(at: 2) == 0
        else { return nil }
        salt = bytes.u32(at: 4)
        lastUse = bytes.u64(at: 8)
        floor = bytes.u32(at: 16)
        let count = Int(bytes[1])
        guard salt <= SessionSequence.maxSalt, floor > 0, count <= SessionLimits.window else {
            return nil
        }
        var offset = Self.headerBytes
        results.reserveCapacity(count)
        for _ in 0..<count {
            guard let result = RememberedResult(bytes, &offset, floor: floor),
                result.number - floor < UInt32(SessionLimits.window),
                results.last.map({ $0.number < result.number }) ?? true
            else { return nil }
            results.append(result)
        }
        guard offset == bytes.count else { return nil }
    }
}

/// Where a store keeps a region's sessions: one key each, together.
package enum SessionKey {
    static let byteCount = 16

    /// The keys of all sessions of a region.
    package static func range(of region: RegionID) -> KeyRange {
        let (next, overflow) = region.rawValue.addingReportingOverflow(1)
        return KeyRange(lower: bytes(region.rawValue), upper: overflow ? Bytes() : bytes(next))
    }

    package static func with<R>(
        _ region: RegionID, _ session: UInt64, _ body: (UnsafeRawBufferPointer) -> R
    ) -> R {
        withUnsafeBytes(of: (region.rawValue.bigEndian, session.bigEndian), body)
    }

    /// The session that a stored key names; nil if it is none of a session.
    static func session(_ key: UnsafeRawBufferPointer) -> UInt64? {
        guard key.count == byteCount else { return nil }
        return UInt64(bigEndian: key.loadUnaligned(fromByteOffset: 8, as: UInt64.self))
    }

    private static func bytes(_ value: UInt64) -> Bytes {
        withUnsafeBytes(of: value.bigEndian) { Bytes(copying: $0) }
    }
}
