// Hot path. What is in an entry of a region's log: entry format version 1.
//
//   payload | version u8 = 1 | kind u8 | flags u16 | count u32 |
//           | logged time u64 | epoch: confVersion u64, version u64 |
//           | chain value, 32 B |              if flag 0x0001
//           | content |
//
//   kind         content                                                     count
//   1 commands   `count` command records (CommandRecord.swift)               1...
//   2 admin      | command u8: 1 compactLog | 0 u8 | 0 u16 | 0 u32 | index u64 |   1
//                | command u8: 2 split | 0 u8 | 0 u16 | parts | (SplitCommand.swift)
//   3 time       nothing: the entry only advances logged time                 0
//
// An empty payload is the entry a leader appends at the start of its term. Integers are
// little-endian. Logged time is the proposing leader's clock in nanoseconds since 1970; a region's
// logged time is max(previous, entry's). The epoch is the proposer's: if the region's version is
// another one at apply, no command runs (RULES 22, 23). Unknown versions, kinds and flags are
// refused: a node that cannot read an entry must not apply past it.
//
// Changing anything here needs a new version (docs/FORMATS.md).

package import UkehiBase

/// Why an entry's payload cannot be applied by this version.
package enum EntryError: Error, Hashable, Sendable {
    /// Its version, kind or flags are of a later version of this program.
    case newerFormat
    /// Its bytes are not an entry's.
    case malformed
}

/// What an administrative entry asks of every replica.
package enum AdminCommand: Hashable, Sendable {
    /// The region's log may be dropped up to and with this index, behind the flush barrier.
    case compactLog(upTo: LogIndex)
    /// The region is divided, if it is still as the entry's epoch says.
    case split(SplitCommand)
}

/// The fixed part of a payload.
package struct EntryPayload: Sendable {
    package enum Kind: UInt8, Sendable, Hashable {
        case commands = 1
        case admin = 2
        case time = 3
    }
    package var kind: Kind
    package var count: Int
    package var loggedTime: UInt64
    package var epoch: RegionEpoch
    /// Where the content starts.
    package var contentOffset: Int

    @usableFromInline static let version: UInt8 = 1
    @usableFromInline static let headerBytes = 32
    @usableFromInline static let chainFlag: UInt16 = 0x0001
    @usableFromInline static let chainBytes = 32
    @usableFromInline static let adminBytes = 16
    @usableFromInline static let leastAdminBytes = 8
    private static let splitCode: UInt8 = 2

    /// Reads the fixed part of a payload that is not empty.
    package init(_ bytes: UnsafeRawBufferPointer) throws(EntryError) {
        guard bytes.count >= 1 else { throw .malformed }
        guard bytes[0] == Self.version else { throw .newerFormat }
        guard bytes.count >= Self.headerBytes else { throw .malformed }
        guard let kind = Kind(rawValue: bytes[1]) else { throw .newerFormat }
        let flags = bytes.u16(at: 2)
        guard flags & ~Self.chainFlag == 0 else { throw .newerFormat }
        contentOffset = Self.headerBytes + (flags & Self.chainFlag != 0 ? Self.chainBytes : 0)
        guard bytes.count >= contentOffset else { throw .malformed }
        self.kind = kind
        count = Int(bytes.u32(at: 4))
        loggedTime = bytes.u64(at: 8)
        epoch = RegionEpoch(confVersion: bytes.u64(at: 16), version: bytes.u64(at: 24))
        let content = bytes.count - contentOffset
        switch kind {
        case .commands:
            // Each record has at least its header, so that a lying count cannot make work.
            guard count >= 1, count <= content / CommandRecord.headerBytes else { throw .malformed }
        case .admin: guard count == 1, content >= Self.leastAdminBytes else { throw .malformed }
        case .time: guard count == 0, content == 0 else { throw .malformed }
        }
    }

    /// The fixed part of `payload`; nil for the empty payload of a term's first entry.
    package static func header(of payload: Bytes) throws(EntryError) -> EntryPayload? {
        if payload.isEmpty { return nil }
        return try payload.withUnsafeBytes { bytes throws(EntryError) in try EntryPayload(bytes) }
    }

    /// The administrative command in `payload`; nil if it is of another kind or cannot be read,
    /// which applying it will say. Looks at two bytes in the common case.
    package static func admin(of payload: Bytes) -> AdminCommand? {
        payload.withUnsafeBytes { bytes in
            guard bytes.count >= headerBytes, bytes[1] == Kind.admin.rawValue,
                let header = try? EntryPayload(bytes)
            else { return nil }
            return try? header.admin(bytes)
        }
    }

    /// Whether `payload` divides its region. Looks at two bytes in the common case.
    package static func isSplit(_ payload: Bytes) -> Bool {
        payload.withUnsafeBytes { bytes in
            guard bytes.count >= headerBytes + leastAdminBytes, bytes[1] == Kind.admin.rawValue
            else { return false }
            let offset = headerBytes + (bytes.u16(at: 2) & chainFlag != 0 ? chainBytes : 0)
            return bytes.count > offset && bytes[offset] == splitCode
        }
    }

    /// The administrative command; the payload's kind is `admin`.
    func admin(_ bytes: UnsafeRawBufferPointer) throws(EntryError) -> AdminCommand {
        guard bytes[contentOffset + 1] == 0, bytes.u16(at: contentOffset + 2) == 0 else {
            throw .malformed
        }
        switch bytes[contentOffset] {
        case 1:
            guard bytes.count - contentOffset == Self.adminBytes,
                bytes.u32(at: contentOffset + 4) == 0
            else { throw .malformed }
            return .compactLog(upTo: LogIndex(bytes.u64(at: contentOffset + 8)))
        case Self.splitCode:
            let start = contentOffset + 4
            return .split(
                try SplitCommand(
                    content: Bytes(copying: bytes.slice(start, bytes.count - start))))
        default: throw .newerFormat
        }
    }

    /// An administrative payload.
    package static func encode(admin: AdminCommand, epoch: RegionEpoch, time: UInt64) -> Bytes {
        var writer = ByteWriter(chunkCapacity: headerBytes + adminBytes)
        appendHeader(kind: .admin, count: 1, epoch: epoch, time: time, to: &writer)
        switch admin {
        case .compactLog(let index):
            writer.append(UInt64(1))
            writer.append(index.rawValue)
        case .split(let command):
            writer.append(UInt32(splitCode))
            command.encode(into: &writer)
        }
        return writer.take()
    }

    /// A payload that only advances logged time.
    package static func encode(time: UInt64, epoch: RegionEpoch) -> Bytes {
        var writer = ByteWriter(chunkCapacity: headerBytes)
        appendHeader(kind: .time, count: 0, epoch: epoch, time: time, to: &writer)
        return writer.take()
    }

    /// Whether an entry with this payload holds clients' commands, as far as can be told.
    package static func isOfClients(_ payload: Bytes) -> Bool {
        payload.withUnsafeBytes { bytes in
            guard !bytes.isEmpty else { return false }
            return (try? EntryPayload(bytes)).map { $0.kind == .commands } ?? true
        }
    }

    /// Whether an entry with this payload asks for no more room than its own: a leader's first one, time,
    /// what administers the region, and commands that only delete.
    package static func isFrugal(_ payload: Bytes) -> Bool {
        guard !payload.isEmpty else { return true }
        return payload.withUnsafeBytes { bytes in
            guard let header = try? EntryPayload(bytes) else { return false }
            guard header.kind == .commands else { return true }
            var records = EntryRecords(header, in: bytes)
            for _ in 0..<header.count {
                guard let record = records.next(), CommandRecord.onlyDeletes(record) else {
                    return false
                }
            }
            return true
        }
    }

    @inlinable
    static func appendHeader(
        kind: Kind, count: Int, epoch: RegionEpoch, time: UInt64, to writer: inout ByteWriter
    ) {
        writer.reserve(headerBytes)
        writer.append(UInt32(version) | UInt32(kind.rawValue) << 8)
        writer.append(UInt32(count))
        writer.append(time)
        writer.append(epoch.confVersion)
        writer.append(epoch.version)
    }
}

/// Walks the records of a commands payload, without allocation.
///
/// Framing is all it checks: a record that is bad inside is its own error, while broken framing
/// ends the walk, since nothing behind it can be told apart any more.
package struct EntryRecords {
    private let bytes: UnsafeRawBufferPointer
    private var at: Int

    package init(_ header: EntryPayload, in payload: UnsafeRawBufferPointer) {
        bytes = payload
        at = header.contentOffset
    }

    /// The next record with its length field; nil at the end or where framing breaks.
    @inline(__always)
    package mutating func next() -> UnsafeRawBufferPointer? {
        guard bytes.count - at >= CommandRecord.headerBytes else { return nil }
        let length = Int(bytes.u32(at: at))
        guard length <= bytes.count - at - 4 else { return nil }
        let record = bytes.slice(at, length + 4)
        at += length + 4
        return record
    }
}

/// Packs command records into entries, one after another, in arena memory.
///
///     begin · append … append · finish      one entry
///
/// One thread; no allocation per record or entry, one per arena chunk.
package struct EntryPacker: ~Copyable {
    @usableFromInline var writer: ByteWriter
    /// Records in the entry so far.
    package private(set) var count = 0
    private var isOpen = false

    /// A packer whose arena chunks hold `chunkCapacity` bytes; an entry keeps its chunk alive.
    package init(chunkCapacity: Int = 256 << 10) {
        writer = ByteWriter(chunkCapacity: chunkCapacity)
    }

    /// Bytes of records in the entry so far.
    package var byteCount: Int { isOpen ? writer.count - EntryPayload.headerBytes : 0 }

    /// Starts an entry.
    package mutating func begin(epoch: RegionEpoch, time: UInt64) {
        invariant(!isOpen, "an entry is begun inside another")
        isOpen = true
        count = 0
        EntryPayload.appendHeader(kind: .commands, count: 0, epoch: epoch, time: time, to: &writer)
    }

    /// Whether a record of `byteCount` bytes may join the entry.
    package func fits(_ byteCount: Int) -> Bool {
        count == 0
            || (count < CommandLimits.maxCommandsPerEntry
                && self.byteCount + byteCount <= CommandLimits.maxPackedEntryBytes)
    }

    /// Copies a validated record into the entry; false, and nothing done, if it does not fit.
    @discardableResult
    package mutating func append(_ record: Bytes) -> Bool {
        guard fits(record.count) else { return false }
        writer.append(record)
        count += 1
        return true
    }

    /// Ends the entry and returns its payload; traps when it is empty.
    package mutating func finish() -> Bytes {
        invariant(isOpen && count > 0, "an entry without commands is finished")
        writer.overwrite(UInt32(count), at: 4)
        isOpen = false
        return writer.take()
    }

    /// Forgets the entry.
    package mutating func cancel() {
        writer.discard()
        isOpen = false
        count = 0
    }
}
