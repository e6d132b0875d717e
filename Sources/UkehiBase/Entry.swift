// What a Raft log holds, and its one encoding, on the wire and in the write-ahead log alike.
//
//   entry record | length u32 | kind u8 | 0 u8 | 0 u16 | term u64 | data, `length` bytes |
//
// Little-endian. The index is not in the record: records stand in runs of consecutive indexes whose
// first index the surrounding message or log batch states, together with a checksum. Changing
// anything here changes the log format and the wire version (docs/FORMATS.md).

/// What an entry's data is.
public enum EntryKind: UInt8, Sendable, Hashable {
    /// Commands of the region, or nothing (the entry a leader appends at the start of its term).
    case normal = 0
    /// A single-step membership change (etcd's ConfChange).
    case confChange = 1
    /// A membership change that may be joint (etcd's ConfChangeV2).
    case confChangeV2 = 2
}

/// One entry of a region's log (Raft, Figure 2).
public struct Entry: Hashable, Sendable {
    public var term: Term
    public var index: LogIndex
    public var data: Bytes
    public var kind: EntryKind

    @inlinable
    public init(term: Term, index: LogIndex, kind: EntryKind = .normal, data: Bytes = Bytes()) {
        self.term = term
        self.index = index
        self.data = data
        self.kind = kind
    }
}

extension Entry {
    /// Bytes of a record before its data.
    public static let recordHeaderBytes = 16

    /// Bytes of the entry's record.
    @inlinable public var recordBytes: Int { Entry.recordHeaderBytes + data.count }

    /// Appends the entry's record.
    @inlinable
    public func encodeRecord(into writer: inout ByteWriter) {
        writer.reserve(recordBytes)
        writer.append(UInt32(data.count))
        writer.append(UInt32(kind.rawValue))
        writer.append(term.rawValue)
        writer.append(data)
    }

    /// Writes the entry's record at `target`, which has room for it; returns ``recordBytes``.
    @inlinable
    @discardableResult
    public func encodeRecord(to target: UnsafeMutableRawPointer) -> Int {
        target.storeBytes(of: UInt32(data.count).littleEndian, as: UInt32.self)
        target.storeBytes(
            of: UInt32(kind.rawValue).littleEndian, toByteOffset: 4, as: UInt32.self)
        target.storeBytes(of: term.rawValue.littleEndian, toByteOffset: 8, as: UInt64.self)
        data.withUnsafeBytes { source in
            if let base = source.baseAddress {
                (target + Entry.recordHeaderBytes).copyMemory(from: base, byteCount: source.count)
            }
        }
        return recordBytes
    }

    /// Reads one record; its data shares the reader's memory.
    public static func decodeRecord(
        from reader: inout ByteReader, index: LogIndex
    ) throws(DecodeError) -> Entry {
        let length = Int(try reader.read(UInt32.self))
        let kindField = try reader.read(UInt32.self)
        guard let raw = UInt8(exactly: kindField), let kind = EntryKind(rawValue: raw) else {
            throw reader.failure("unknown entry kind \(kindField)")
        }
        let term = Term(try reader.read(UInt64.self))
        return Entry(term: term, index: index, kind: kind, data: try reader.readBytes(length))
    }
}

/// What a peer must have on disk before it speaks (Raft, Figure 2, "persistent state"; RULES 1).
public struct HardState: Hashable, Sendable {
    public var term: Term
    /// Whom this peer voted for in `term`.
    public var vote: PeerID
    /// The highest index known to be committed; a hint, never ahead of the truth.
    public var commit: LogIndex

    @inlinable
    public init(term: Term = .zero, vote: PeerID = .none, commit: LogIndex = .zero) {
        self.term = term
        self.vote = vote
        self.commit = commit
    }

    /// A peer that has never heard of anything.
    public static let empty = HardState()
    @inlinable public var isEmpty: Bool { self == .empty }
}
