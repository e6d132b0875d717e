// What frames hold: records, each whole in one frame.
//
//   state | kind u8 = 2 | 0 u8 | 0 u16 | bytes u32 | the region's state (RegionState.swift) |
//   pair  | kind u8 = 1 | flags u8: 1 an expiry follows | key bytes u16 | value bytes u32 |
//         | version u64 | [expires at u64] | key | value |
//   session | kind u8 = 3 | 0 u8 | 0 u16 | bytes u32 | name u64 | what is stored of it (SessionRecord.swift) |
//
// The state is the first record of frame 0 and nowhere else; the sessions that it counts follow,
// ascending, then pairs in key order across all frames, their keys in the region's range. Readers check all of that, since a right checksum says
// who wrote the bytes, not that they make sense.

import UkehiBase

enum SnapshotRecord {
    static let pairKind: UInt8 = 1
    static let stateKind: UInt8 = 2
    static let sessionKind: UInt8 = 3
    static let pairBytes = 16
    static let expiryFlag: UInt8 = 1
    /// Bytes before the state.
    static let minBytes = 8
    /// Bit 63 says that an expiry follows, where a store keeps a version.
    static let maxVersion: UInt64 = 1 << 63 - 1

    static func append(_ state: RegionState, to writer: inout ByteWriter) {
        let bytes = state.encoded()
        writer.append(stateKind)
        writer.append(UInt8(0))
        writer.append(UInt16(0))
        writer.appendLengthPrefixed(bytes)
    }

    /// The bytes of a pair's record.
    static func byteCount(_ entry: StoredEntry) -> Int {
        pairBytes + (entry.expiresAt == 0 ? 0 : 8) + entry.key.count + entry.value.count
    }

    /// Writes a pair that ``SnapshotOrder`` has accepted.
    static func append(_ entry: StoredEntry, to writer: inout ByteWriter) {
        writer.append(byteCount(entry)) { target in
            let hasExpiry = entry.expiresAt != 0
            target.storeBytes(of: pairKind, as: UInt8.self)
            target.storeBytes(of: hasExpiry ? expiryFlag : 0, toByteOffset: 1, as: UInt8.self)
            target.storeBytes(
                of: UInt16(entry.key.count).littleEndian, toByteOffset: 2, as: UInt16.self)
            target.storeBytes(
                of: UInt32(entry.value.count).littleEndian, toByteOffset: 4, as: UInt32.self)
            target.storeBytes(of: entry.version.littleEndian, toByteOffset: 8, as: UInt64.self)
            var place = target + pairBytes
            if hasExpiry {
                place.storeBytes(of: entry.expiresAt.littleEndian, as: UInt64.self)
                place += 8
            }
            if let key = entry.key.baseAddress {
                place.copyMemory(from: key, byteCount: entry.key.count)
            }
            if let value = entry.value.baseAddress {
                (place + entry.key.count).copyMemory(from: value, byteCount: entry.value.count)
            }
        }
    }

    /// The bytes of a session's record.
    static func sessionByteCount(_ value: UnsafeRawBufferPointer) -> Int { 16 + value.count }

    /// Writes a session that ``SnapshotOrder`` has accepted.
    static func append(
        session: UInt64, _ value: UnsafeRawBufferPointer, to writer: inout ByteWriter
    ) {
        writer.append(sessionKind)
        writer.append(UInt8(0))
        writer.append(UInt16(0))
        writer.append(UInt32(8 + value.count))
        writer.append(session)
        writer.append(value)
    }

    /// What stands at `offset`.
    enum Item {
        case state(Range<Int>)
        case session(UInt64, UnsafeRawBufferPointer)
        case pair(StoredEntry)
    }

    /// Takes the record at `offset` apart and moves past it; nil if no right one stands there.
    static func next(_ raw: UnsafeRawBufferPointer, _ offset: inout Int) -> Item? {
        let left = raw.count - offset
        guard left >= minBytes else { return nil }
        switch raw[offset] {
        case stateKind:
            let count = Int(raw.u32(at: offset + 4))
            guard raw[offset + 1] == 0, raw.u16(at: offset + 2) == 0, left - minBytes >= count
            else { return nil }
            let start = offset + minBytes
            offset = start + count
            return .state(start..<offset)
        case sessionKind:
            let count = Int(raw.u32(at: offset + 4))
            guard raw[offset + 1] == 0, raw.u16(at: offset + 2) == 0, count >= 8,
                left - minBytes >= count
            else { return nil }
            let start = offset + minBytes
            offset = start + count
            return .session(raw.u64(at: start), raw.slice(start + 8, count - 8))
        case pairKind:
            let hasExpiry = raw[offset + 1] == expiryFlag
            guard hasExpiry || raw[offset + 1] == 0, left >= pairBytes + (hasExpiry ? 8 : 0) else {
                return nil
            }
            let expiresAt = hasExpiry ? raw.u64(at: offset + pairBytes) : 0
            let key = offset + pairBytes + (hasExpiry ? 8 : 0)
            let value = key + Int(raw.u16(at: offset + 2))
            let end = value + Int(raw.u32(at: offset + 4))
            guard end <= raw.count, !hasExpiry || expiresAt != 0 else { return nil }
            let entry = StoredEntry(
                key: UnsafeRawBufferPointer(rebasing: raw[key..<value]),
                value: UnsafeRawBufferPointer(rebasing: raw[value..<end]),
                version: raw.u64(at: offset + 8), expiresAt: expiresAt)
            offset = end
            return .pair(entry)
        default: return nil
        }
    }
}

/// What is so of every pair of a snapshot, checked where pairs go in and where they come out.
struct SnapshotOrder {
    private let range: KeyRange
    /// Nil where a reader did not start at frame 0.
    private let revision: UInt64?
    /// Room for the key before, of which `lastCount` bytes count; nil: there was none.
    private var last = [UInt8](repeating: 0, count: CommandLimits.maxKeyBytes)
    private var lastCount: Int?
    /// How many sessions are still to come; nil where a reader did not start at frame 0.
    private var missingSessions: UInt32?
    private var lastSession: UInt64?

    /// - Parameter state: Nil where a reader does not start at frame 0.
    init(_ range: KeyRange, _ state: RegionState?) {
        self.range = range
        revision = state?.revision
        missingSessions = state?.sessions
    }

    /// Why the session cannot follow what was before; nil if it may, and then it is what was before.
    mutating func fault(ofSession session: UInt64, _ value: UnsafeRawBufferPointer) -> String? {
        guard lastCount == nil, missingSessions != 0, lastSession.map({ $0 < session }) ?? true
        else { return "a session is one too many, or not in order" }
        guard SessionEntry(stored: value) != nil else { return "a session is malformed" }
        lastSession = session
        if let missingSessions { self.missingSessions = missingSessions - 1 }
        return nil
    }

    /// Why no more sessions may follow yet; nil: they may be missing where they were not to be seen.
    var faultBehindSessions: String? {
        (missingSessions ?? 0) > 0
            ? "\(missingSessions ?? 0) of the region's sessions are missing" : nil
    }

    /// Why the pair cannot follow the one before; nil if it may, and then it is the one before.
    mutating func fault(of entry: StoredEntry) -> String? {
        if lastCount == nil, let fault = faultBehindSessions { return fault }
        if entry.key.count > CommandLimits.maxKeyBytes { return "a key is too long" }
        if entry.value.count > CommandLimits.maxValueBytes { return "a value is too large" }
        if entry.version > min(revision ?? .max, SnapshotRecord.maxVersion) {
            return "a key has a version that the region has not reached"
        }
        if let lastCount {
            let isAbove = last.withUnsafeBytes {
                compareBytes(UnsafeRawBufferPointer(rebasing: $0[..<lastCount]), entry.key) < 0
            }
            if !isAbove { return "keys are not in order" }
        }
        let isInside =
            range.lower.withUnsafeBytes { compareBytes($0, entry.key) <= 0 }
            && (range.upper.isEmpty
                || range.upper.withUnsafeBytes { compareBytes(entry.key, $0) < 0 })
        if !isInside { return "a key lies outside the region's range" }
        last.withUnsafeMutableBytes { $0.copyMemory(from: entry.key) }
        lastCount = entry.key.count
        return nil
    }
}
