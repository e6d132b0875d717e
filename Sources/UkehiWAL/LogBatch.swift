// Hot path: no allocation per entry or batch in the steady state.
//
// A lane's records on their way into the log, already in their final bytes.
//
//   LogBatch       what a lane fills; it stays with the lane
//   BatchStorage   the memory behind it: directory items, bodies one after another. `submit` takes
//                  it whole and leaves an empty one, so that handing over copies nothing
//
// Encoding, compression and checksums happen here, on the lane's thread; what is left for the log is to
// stamp each item with its region's previous LSN and to copy the bodies once into a frame.

package import UkehiBase

/// Records of any regions, in order, to be made durable together.
///
/// A batch is atomic: recovery finds all of it or nothing.
package struct LogBatch: ~Copyable {
    var storage = BatchStorage()
    private let compressor: BodyCompressor?

    /// A batch whose bodies stay as they are.
    package init() { compressor = nil }

    init(compressor: BodyCompressor?) { self.compressor = compressor }

    package var isEmpty: Bool { storage.itemCount == 0 }
    /// Bytes it will take in a frame.
    package var encodedBytes: Int { storage.encodedBytes }

    /// Adds entries of one region, superseding what the log holds at and past the first one, and
    /// the hard state if it changed. Indexes must be consecutive.
    ///
    /// The commit index should travel whenever entries do: recovery uses the highest it finds.
    package mutating func append(region: RegionID, hardState: HardState?, entries: [Entry]) {
        if entries.isEmpty {
            guard let hardState else { return }
            var item = BatchItem(region: region, kind: .append)
            item.set(hardState)
            storage.add(&item, bodyFrom: storage.bodyBytes)
            return
        }
        var item = BatchItem(region: region, kind: .append)
        if let hardState { item.set(hardState) }
        add(&item, entries)
    }

    /// Says again which entries a region has, see ``RecordKind/rewrite``: those whose records the body has
    /// from `start` on, of so many runs of terms.
    mutating func finishRewrite(_ item: inout BatchItem, bodyFrom start: Int, runs: Int) {
        add(&item, bodyFrom: start, runs: runs)
        storage.holdsRewrites = true
    }

    /// The same of entries at hand, whose indexes are consecutive.
    mutating func rewrite(region: RegionID, entries: [Entry]) {
        guard !entries.isEmpty else { return }
        var item = BatchItem(region: region, kind: .rewrite)
        add(&item, entries)
        storage.holdsRewrites = true
    }

    /// A footer states the runs of several terms, from the body as it was.
    private mutating func add(_ item: inout BatchItem, bodyFrom start: Int, runs: Int) {
        if runs == 1 { storage.compress(&item, bodyFrom: start, compressor) }
        storage.add(&item, bodyFrom: start)
        storage.detailBytes += FooterFormat.detailBytes(runs: runs)
    }

    /// At least one entry. None is copied on the way, since each copy counts references.
    private mutating func add(_ item: inout BatchItem, _ entries: [Entry]) {
        item.count = UInt32(entries.count)
        item.firstIndex = entries[0].index
        item.lastTerm = entries[entries.count - 1].term
        let start = storage.bodyBytes
        var expected = item.firstIndex
        var (term, runs) = (entries[0].term, 1)
        for position in entries.indices {
            invariant(
                entries[position].index == expected,
                "\(item.region): entry \(entries[position].index) where \(expected) was due")
            expected = expected + 1
            if entries[position].term != term { (term, runs) = (entries[position].term, runs + 1) }
            storage.appendRecord(entries[position])
        }
        add(&item, bodyFrom: start, runs: runs)
    }

    /// Adds the record that a region came to be on this node, with its first hard state. Its log
    /// begins at index 1 unless a ``reset(region:index:term:)`` in the same batch says otherwise.
    package mutating func birth(region: RegionID, payload: Bytes, hardState: HardState) {
        var item = BatchItem(region: region, kind: .birth)
        item.set(hardState)
        add(&item, payload)
    }

    /// Adds the record that entries below `firstIndex` are no longer needed; `term` is that of the
    /// entry before it. Only once the state is durable past them (RULES 40).
    package mutating func compact(region: RegionID, firstIndex: LogIndex, term: Term) {
        var item = BatchItem(region: region, kind: .compact)
        item.firstIndex = firstIndex
        item.lastTerm = term
        add(&item, Bytes())
    }

    /// Adds the record that a snapshot at (`index`, `term`) replaced the log: it is empty and goes
    /// on at `index + 1`.
    package mutating func reset(
        region: RegionID, index: LogIndex, term: Term, hardState: HardState? = nil
    ) {
        var item = BatchItem(region: region, kind: .reset)
        item.firstIndex = index + 1
        item.lastTerm = term
        if let hardState { item.set(hardState) }
        add(&item, Bytes())
    }

    /// Adds the record that the region is gone from this node, with its log. The hard state stays.
    package mutating func tombstone(region: RegionID, payload: Bytes) {
        var item = BatchItem(region: region, kind: .tombstone)
        add(&item, payload)
    }

    /// Says again what is so, see ``RecordKind/carry``.
    mutating func carry(region: RegionID, state: RegionState) {
        var item = BatchItem(region: region, kind: .carry)
        item.set(state.hardState)
        item.firstIndex = state.firstIndex
        item.lastTerm = state.compactedTerm
        add(&item, CarriedIdentity(birth: state.birth, tombstone: state.tombstone).encode())
    }

    /// Takes out the items, by their positions, that are not to be kept.
    mutating func keepItems(_ isKept: (Int) -> Bool) { storage.keepItems(isKept) }

    /// Forgets everything added since the last submit.
    package mutating func removeAll() { storage.removeAll() }

    private mutating func add(_ item: inout BatchItem, _ payload: Bytes) {
        let start = storage.bodyBytes
        payload.withUnsafeBytes { storage.appendBody($0) }
        storage.add(&item, bodyFrom: start)
        storage.detailBytes += FooterFormat.detailBytes(body: storage.bodyBytes - start)
    }
}

extension BatchItem {
    fileprivate mutating func set(_ hardState: HardState) {
        self.hardState = hardState
        flags |= BatchItem.hasHardState
    }
}

/// Encoded items and bodies of one batch.
///
/// Safety: owned by one side at a time: the lane until submit, then the log until it is durable. Nobody
/// holds an access to it while calling it again, so that exclusivity needs no check at run time.
final class BatchStorage: @unchecked Sendable {
    @exclusivity(unchecked)
    private(set) var items: UnsafeMutableRawPointer
    /// Memory for a frame, so that a batch that is one by itself need not be copied: bodies begin behind
    /// room for a header and as many items as the last batch had.
    private let frame = FrameBuffer(capacity: 16 << 10, prefersLargePages: true)
    @exclusivity(unchecked)
    private var bodyStart = BatchStorage.bodyStart(items: 1)
    /// In ``frame``, from ``bodyStart`` on.
    @exclusivity(unchecked)
    private(set) var body: UnsafeMutableRawPointer
    @exclusivity(unchecked)
    private var bodyCapacity: Int
    @exclusivity(unchecked)
    private(set) var itemCount = 0
    @exclusivity(unchecked)
    private(set) var bodyBytes = 0
    /// What a footer needs of the items beside themselves.
    @exclusivity(unchecked)
    var detailBytes = 0
    /// Whether entries are said again, which not every segment may hold.
    var holdsRewrites = false
    @exclusivity(unchecked)
    private var itemCapacity = 64
    /// The region table's slot of each item, set at submit.
    @exclusivity(unchecked)
    var slots: ContiguousArray<Int32> = []

    init() {
        items = .allocate(byteCount: 64 * FrameFormat.itemBytes, alignment: 16)
        body = frame.base + bodyStart
        bodyCapacity = frame.capacity - bodyStart
    }

    deinit { items.deallocate() }

    private func placeBody(at start: Int) {
        bodyStart = start
        body = frame.base + start
        bodyCapacity = frame.capacity - start
    }

    var encodedBytes: Int { itemCount * FrameFormat.itemBytes + bodyBytes }
    var capacityBytes: Int { itemCapacity * FrameFormat.itemBytes + frame.capacity }

    private static func bodyStart(items: Int) -> Int {
        FrameFormat.headerBytes + items * FrameFormat.itemBytes
    }

    /// Leaves room for a directory of so many items, as an empty storage can.
    func expect(items count: Int) {
        guard bodyBytes == 0 else { return }
        let start = BatchStorage.bodyStart(items: count)
        // A directory that is most of the frame is not worth it.
        placeBody(at: 2 * start <= frame.capacity ? start : BatchStorage.bodyStart(items: 1))
    }

    /// The memory of the frame that has this batch alone, its bodies in their place; nil if they are
    /// elsewhere, or it has no room for `frameBytes`, or is so small that copying it costs nothing.
    func frameInPlace(_ frameBytes: Int) -> UnsafeMutableRawPointer? {
        guard bodyBytes >= WALLimits.leastFrameInPlace, frameBytes <= frame.capacity,
            bodyStart == BatchStorage.bodyStart(items: itemCount)
        else { return nil }
        return frame.base
    }

    func removeAll() {
        itemCount = 0
        bodyBytes = 0
        detailBytes = 0
        holdsRewrites = false
        slots.removeAll(keepingCapacity: true)
    }

    func item(at position: Int) -> UnsafeMutableRawPointer {
        items + position * FrameFormat.itemBytes
    }

    @inline(__always)
    func appendRecord(_ entry: Entry) {
        let length = entry.data.count
        let size = Entry.recordHeaderBytes + length
        if bodyCapacity - bodyBytes < size { growBody(by: size) }
        let at = body + bodyBytes
        at.put(UInt32(truncatingIfNeeded: length), at: 0)
        at.put(UInt32(entry.kind.rawValue), at: 4)
        at.put(entry.term.rawValue, at: 8)
        if length > 0 {
            entry.data.withUnsafeBytes { data in
                guard let source = data.baseAddress else { return }
                (at + Entry.recordHeaderBytes).copyMemory(from: source, byteCount: length)
            }
        }
        bodyBytes += size
    }

    /// Forgets what was added to the body from `start` on, which no item has yet.
    func removeBody(from start: Int) { bodyBytes = start }

    func appendBody(_ bytes: UnsafeRawBufferPointer) {
        guard let source = bytes.baseAddress, !bytes.isEmpty else { return }
        if bodyCapacity - bodyBytes < bytes.count { growBody(by: bytes.count) }
        (body + bodyBytes).copyMemory(from: source, byteCount: bytes.count)
        bodyBytes += bytes.count
    }

    /// Makes everything from `start` on smaller, if that pays, and says so in the item.
    func compress(_ item: inout BatchItem, bodyFrom start: Int, _ compressor: BodyCompressor?) {
        guard let compressor else { return }
        let raw = UnsafeRawBufferPointer(start: body + start, count: bodyBytes - start)
        guard let packed = compressor.compress(raw), let source = packed.baseAddress else { return }
        (body + start).copyMemory(from: source, byteCount: packed.count)
        bodyBytes = start + packed.count
        item.rawBytes = UInt32(raw.count)
        item.flags |= BatchItem.isCompressed
        compressor.trim()
    }

    /// Adds the item whose body is everything from `start` on.
    func add(_ item: inout BatchItem, bodyFrom start: Int) {
        let length = bodyBytes - start
        // Past 32 bits the batch is refused at submit, by its size.
        item.bodyBytes = UInt32(truncatingIfNeeded: length)
        if !item.isCompressed { item.rawBytes = item.bodyBytes }
        item.bodyChecksum = CRC32C.checksum(
            UnsafeRawBufferPointer(start: body + start, count: length),
            seed: FrameFormat.bodySeed(region: item.region, firstIndex: item.firstIndex))
        if itemCount == itemCapacity { growItems() }
        item.encode(to: self.item(at: itemCount))
        itemCount += 1
    }

    func keepItems(_ isKept: (Int) -> Bool) {
        guard !(0..<itemCount).allSatisfy(isKept) else { return }
        var (kept, from, to) = (0, 0, 0)
        for position in 0..<itemCount {
            let count = BatchItem.decode(item(at: position)).map { Int($0.bodyBytes) } ?? 0
            if isKept(position) {
                item(at: kept).copyMemory(
                    from: item(at: position), byteCount: FrameFormat.itemBytes)
                (body + to).copyMemory(from: body + from, byteCount: count)
                kept += 1
                to += count
            }
            from += count
        }
        // What a footer needs is now at most as much as before.
        itemCount = kept
        bodyBytes = to
    }

    /// With room for what a frame has behind its bodies, too.
    @inline(never)
    private func growBody(by byteCount: Int) {
        frame.grow(
            to: bodyStart + bodyBytes + byteCount + bodyStart + FrameFormat.blockBytes,
            keeping: bodyStart..<bodyStart + bodyBytes)
        placeBody(at: bodyStart)
    }

    @inline(never)
    private func growItems() {
        let larger = UnsafeMutableRawPointer.allocate(
            byteCount: itemCapacity * 2 * FrameFormat.itemBytes, alignment: 16)
        larger.copyMemory(from: items, byteCount: itemCount * FrameFormat.itemBytes)
        items.deallocate()
        items = larger
        itemCapacity *= 2
    }
}
