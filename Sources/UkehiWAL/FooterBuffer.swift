// Hot path: a copy of each frame's header and directory; the memory is reused and grows by doubling.
//
// A segment's footer as it grows, frame by frame; and, with the same bytes, what reading a segment
// leaves in memory until it is applied.

import UkehiBase
import UkehiEnvironment

/// The records of one segment's frames, behind room for the footer's header.
///
/// Safety: used by one thread at a time: under the log's lock while frames go into its segment, then
/// by the preparer; at recovery by the thread that reads the segment, then by the one that applies it.
final class FooterBuffer: @unchecked Sendable {
    private(set) var base: UnsafeMutableRawPointer
    private var capacity: Int
    /// In use, the header's room included.
    private(set) var count = FooterFormat.headerBytes
    private(set) var frames = 0
    /// Bytes of a footer that are still worth writing.
    private(set) var limit = Int.max
    /// The records are more than the limit allows, or not complete: this segment gets no footer.
    private(set) var isGivenUp = false

    init(capacity: Int = 64 << 10) {
        self.capacity = FrameFormat.roundUp(capacity)
        base = .allocate(byteCount: self.capacity, alignment: FrameFormat.blockBytes)
    }

    deinit { base.deallocate() }

    var records: UnsafeRawBufferPointer {
        UnsafeRawBufferPointer(
            start: base + FooterFormat.headerBytes, count: count - FooterFormat.headerBytes)
    }
    /// What it takes in a file.
    var fileBytes: Int { FrameFormat.roundUp(count) }

    /// Begins a segment's footer.
    func reset(limit: Int) {
        count = FooterFormat.headerBytes
        frames = 0
        self.limit = limit
        isGivenUp = false
        guard capacity > WALLimits.maxIdleBufferBytes else { return }
        base.deallocate()
        capacity = 64 << 10
        base = .allocate(byteCount: capacity, alignment: FrameFormat.blockBytes)
    }

    func giveUp() {
        reset(limit: limit)
        isGivenUp = true
    }

    private func reserve(_ byteCount: Int) {
        guard capacity - count < byteCount else { return }
        var larger = capacity
        while larger - count < byteCount { larger *= 2 }
        let moved = UnsafeMutableRawPointer.allocate(
            byteCount: larger, alignment: FrameFormat.blockBytes)
        moved.copyMemory(from: base, byteCount: count)
        base.deallocate()
        base = moved
        capacity = larger
    }

    // MARK: Frames that are written

    /// What the footer takes in the file when `group` is in its segment, too; 0: there will be none.
    func fileBytes(adding group: Group) -> Int {
        guard !isGivenUp else { return 0 }
        let bytes = FrameFormat.roundUp(count + FooterBuffer.recordBytes(of: group))
        return bytes <= limit ? bytes : 0
    }

    private static func recordBytes(of group: Group) -> Int {
        FrameFormat.headerBytes + group.itemCount * FrameFormat.itemBytes + 4 + group.detailBytes
    }

    /// Adds the frame of a closed group, or gives up.
    func add(_ group: Group) {
        guard fileBytes(adding: group) > 0, let frame = group.base else { return giveUp() }
        reserve(FooterBuffer.recordBytes(of: group))
        begin(frame, UnsafeRawPointer(frame) + FrameFormat.headerBytes, group.header)
        let details = count
        if group.detailBytes > 0 { addDetails(of: group) }
        endDetails(from: details)
        frames += 1
    }

    private func addDetails(of group: Group) {
        var position = 0
        for storage in group.storages {
            guard storage.detailBytes > 0 else {
                position += storage.itemCount
                continue
            }
            var offset = 0
            for index in 0..<storage.itemCount {
                guard let item = BatchItem.decode(storage.item(at: index)) else {
                    invariant(false, "an item that was just encoded cannot be read")
                    return
                }
                let body = UnsafeRawBufferPointer(
                    start: storage.body + offset, count: Int(item.bodyBytes))
                offset += body.count
                position += 1
                // Entries of several terms are not compressed (``LogBatch``): the item says it all.
                if item.isCompressed { continue }
                let problem = addDetail(of: item, at: position - 1, body)
                invariant(problem == nil, "a batch holds an append with \(problem ?? "")")
            }
        }
    }

    // MARK: Frames that are read

    /// Adds a frame that was read and checked; the reason if an append's body is not what it should
    /// be. A damaged body adds nothing beside its item: whoever applies it sees to it that the item
    /// says everything.
    func add(_ frame: FrameView) -> String? {
        let start = count
        reserve(frame.header.bodyStart + 4)
        begin(frame.base, frame.directory, frame.header)
        let details = count
        var offset = frame.header.bodyStart
        for position in frame.items.indices {
            let item = frame.items[position]
            defer { offset += Int(item.bodyBytes) }
            if frame.damaged.contains(position) { continue }
            let problem =
                frame.body(of: item, at: offset).map { addDetail(of: item, at: position, $0) }
                ?? BatchItem.isNotDecompressed
            if let problem {
                count = start
                return "\(item.region) \(problem)"
            }
        }
        endDetails(from: details)
        frames += 1
        return nil
    }

    /// Fills the buffer, header included, from outside; false if that is less than `byteCount`.
    func fill(
        _ byteCount: Int, _ read: (UnsafeMutableRawBufferPointer) throws(FileError) -> Int
    ) throws(FileError) -> Bool {
        count = 0
        reserve(byteCount)
        let found = try read(UnsafeMutableRawBufferPointer(start: base, count: byteCount))
        count = max(found, FooterFormat.headerBytes)
        return found == byteCount
    }

    // MARK: Records

    private func begin(
        _ header: UnsafeRawPointer, _ directory: UnsafeRawPointer, _ decoded: FrameHeader
    ) {
        (base + count).copyMemory(from: header, byteCount: FrameFormat.headerBytes)
        (base + count + FrameFormat.headerBytes).copyMemory(
            from: directory, byteCount: decoded.directoryBytes)
        count += decoded.bodyStart + 4
    }

    private func endDetails(from details: Int) {
        (base + details - 4).storeBytes(
            of: UInt32(truncatingIfNeeded: count - details).littleEndian, as: UInt32.self)
    }

    /// Adds what a record has beside its directory item; the reason if the body is not as stated.
    private func addDetail(
        of item: BatchItem, at position: Int, _ body: UnsafeRawBufferPointer
    ) -> String? {
        guard item.kind == .append || item.kind == .rewrite else {
            guard let source = body.baseAddress, !body.isEmpty else { return nil }
            reserve(FooterFormat.detailHeaderBytes + body.count)
            let start = count
            count += FooterFormat.detailHeaderBytes
            (base + count).copyMemory(from: source, byteCount: body.count)
            count += body.count
            endDetail(position, from: start)
            return nil
        }
        guard item.count > 0 else { return nil }
        let start = count
        reserve(FooterFormat.detailHeaderBytes)
        count += FooterFormat.detailHeaderBytes
        var term: Term?
        var runs = 0
        let problem = forEachRecord(of: item, in: body) { offset, record in
            guard record.term != term else { return }
            term = record.term
            runs += 1
            reserve(FooterFormat.runBytes)
            (base + count).put(item.firstIndex.rawValue + UInt64(offset), at: 0)
            (base + count).put(record.term.rawValue, at: 8)
            count += FooterFormat.runBytes
        }
        // One run is what the item says itself.
        if runs > 1 { endDetail(position, from: start) } else { count = start }
        return problem
    }

    private func endDetail(_ position: Int, from start: Int) {
        let bytes = count - start - FooterFormat.detailHeaderBytes
        (base + start).put(UInt32(truncatingIfNeeded: position), at: 0)
        (base + start).put(UInt32(truncatingIfNeeded: bytes), at: 4)
    }

    // MARK: The whole

    /// The bytes of the footer at `end`, for the frames added.
    func finish(
        segment: SegmentHeader, end: UInt64, lastLSN: UInt64, lastChecksum: UInt32
    ) -> UnsafeRawBufferPointer {
        let size = fileBytes
        reserve(size - count)
        (base + count).initializeMemory(as: UInt8.self, repeating: 0, count: size - count)
        FooterHeader(
            segment: segment.segment, incarnation: segment.incarnation, offset: end,
            lastLSN: lastLSN, lastChecksum: lastChecksum, frames: UInt32(frames),
            recordBytes: UInt64(records.count), recordChecksum: CRC32C.checksum(records)
        ).encode(to: base)
        return UnsafeRawBufferPointer(start: base, count: size)
    }
}
