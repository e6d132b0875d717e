// What replaying a region's records, in log order, makes of it. One transition function for both
// uses: at submit, to know what will be in the log, and at recovery, to know what is.
//
//   append at i        drops everything at and past i, then holds its entries; 1 <= i <= last + 1
//   compact to i       the log begins at i; later appends below i are impossible
//   reset to i         the log is empty and begins at i (a snapshot replaced it)
//   birth, tombstone   each ends the other; a tombstone drops the log and leaves the hard state
//   carry, rewrite     say again what is so at their place: replaying with or without them is the same
//
// The oldest segments of a log may be gone. What they held of a region was superseded by then, but
// records that stood between are read without what they refer to: so until the first record that
// says so, replay knows neither where such a region's log begins nor where it ends.

import UkehiBase

/// What the owner said of a region: behind one word, since most fields of a region change with each
/// batch and this hardly ever.
///
/// Safety: `segment` changes under the lock of the log that the region is in.
final class RegionIdentity: @unchecked Sendable {
    let birth: Bytes?
    let tombstone: Bytes?
    /// Where the newest durable record of it is; 0: there is none yet.
    var segment: UInt32

    init(birth: Bytes?, tombstone: Bytes?, segment: UInt32) {
        self.birth = birth
        self.tombstone = tombstone
        self.segment = segment
    }
}

/// A region's log without its entries.
struct RegionState: Sendable {
    var hardState = HardState.empty
    /// Invariant: 1 <= firstIndex <= lastIndex + 1.
    var firstIndex = LogIndex(1)
    var lastIndex = LogIndex.zero
    /// The term of the entry before `firstIndex`.
    var compactedTerm = Term.zero
    /// Its birth or tombstone, if it has one.
    private(set) var identity: RegionIdentity?
    /// Numbers are below 2^62: the two bits above are ``isBaseKnown`` and ``isEndKnown``.
    private var packedLSN: UInt64 = 0

    /// Whether `firstIndex` is what it was when the last record was written.
    var isBaseKnown: Bool {
        get { packedLSN & 1 << 62 != 0 }
        set { packedLSN = packedLSN & ~(1 << 62) | (newValue ? 1 << 62 : 0) }
    }
    /// The same of `lastIndex`.
    var isEndKnown: Bool {
        get { packedLSN & 1 << 63 != 0 }
        set { packedLSN = packedLSN & ~(1 << 63) | (newValue ? 1 << 63 : 0) }
    }
    /// The frame that held the region's last batch.
    var lastLSN: UInt64 {
        get { packedLSN & (1 << 62 - 1) }
        set { packedLSN = packedLSN & (3 << 62) | newValue }
    }
    var birth: Bytes? { identity?.birth }
    var tombstone: Bytes? { identity?.tombstone }

    /// A region nothing was read of: new, or, where older segments are gone, not necessarily.
    init(isNew: Bool) {
        isBaseKnown = isNew
        isEndKnown = isNew
    }

    /// Applies one record; the reason when no log can hold it here.
    mutating func apply(_ item: BatchItem, body: UnsafeRawBufferPointer) -> String? {
        switch item.kind {
        case .append:
            if item.count > 0, let problem = append(item) { return problem }
            if item.hasHardState { raise(item.hardState) }
        case .compact:
            if isEndKnown, item.firstIndex > lastIndex + 1 {
                return "a compaction to \(item.firstIndex) past the last entry \(lastIndex)"
            }
            if !isBaseKnown || item.firstIndex > firstIndex { begin(at: item) }
        case .reset:
            begin(at: item)
            lastIndex = item.firstIndex - 1
            isEndKnown = true
            if item.hasHardState { raise(item.hardState) }
        case .birth:
            identify(birth: Bytes(copying: body), tombstone: nil)
            if item.hasHardState { hardState = item.hardState }
        case .tombstone:
            identify(birth: nil, tombstone: Bytes(copying: body))
            firstIndex = LogIndex(1)
            lastIndex = .zero
            compactedTerm = .zero
            isBaseKnown = true
            isEndKnown = true
            if item.hasHardState { hardState = item.hardState }
        case .carry:
            guard let identity = CarriedIdentity.decode(body) else { return "an unreadable carry" }
            begin(at: item)
            hardState = item.hardState
            identify(birth: identity.birth, tombstone: identity.tombstone)
        case .rewrite:
            if isBaseKnown, item.firstIndex < firstIndex {
                return "entries again from \(item.firstIndex), below the first one \(firstIndex)"
            }
            if isEndKnown, item.endIndex > lastIndex + 1 {
                return "entries again up to \(item.endIndex - 1), past the last one \(lastIndex)"
            }
            // There are at least these, and maybe more that are not met yet.
            lastIndex = max(lastIndex, item.endIndex - 1)
        }
        return nil
    }

    private mutating func append(_ item: BatchItem) -> String? {
        if isBaseKnown, item.firstIndex < firstIndex {
            return "an append at \(item.firstIndex) below the first index \(firstIndex)"
        }
        if isEndKnown, item.firstIndex > lastIndex + 1 {
            return "an append at \(item.firstIndex) after the last entry \(lastIndex)"
        }
        lastIndex = item.endIndex - 1
        isEndKnown = true
        return nil
    }

    private mutating func identify(birth: Bytes?, tombstone: Bytes?) {
        let segment = identity?.segment ?? 0
        identity =
            birth == nil && tombstone == nil
            ? nil : RegionIdentity(birth: birth, tombstone: tombstone, segment: segment)
    }

    private mutating func begin(at item: BatchItem) {
        firstIndex = item.firstIndex
        lastIndex = max(lastIndex, item.firstIndex - 1)
        compactedTerm = item.lastTerm
        isBaseKnown = true
    }

    /// A newer hard state; its commit index is a hint that only grows.
    private mutating func raise(_ newer: HardState) {
        let commit = max(hardState.commit, newer.commit)
        hardState = newer
        hardState.commit = commit
    }
}

/// The body of a carry record: | has birth u8, 2: has tombstone | length u32, birth | length u32, tombstone |
struct CarriedIdentity {
    var birth: Bytes?
    var tombstone: Bytes?

    func encode() -> Bytes {
        var writer = ByteWriter(chunkCapacity: 64)
        writer.append(UInt8((birth == nil ? 0 : 1) | (tombstone == nil ? 0 : 2)))
        if let birth { writer.appendLengthPrefixed(birth) }
        if let tombstone { writer.appendLengthPrefixed(tombstone) }
        return writer.take()
    }

    static func decode(_ body: UnsafeRawBufferPointer) -> CarriedIdentity? {
        var reader = ByteReader(Bytes(copying: body))
        do throws(DecodeError) {
            let flags = try reader.read(UInt8.self)
            guard flags & ~3 == 0 else { return nil }
            var identity = CarriedIdentity()
            if flags & 1 != 0 { identity.birth = try reader.readLengthPrefixed() }
            if flags & 2 != 0 { identity.tombstone = try reader.readLengthPrefixed() }
            try reader.expectEnd()
            return identity
        } catch {
            return nil
        }
    }
}
