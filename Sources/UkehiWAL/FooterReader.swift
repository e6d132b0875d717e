// Reading a footer: every length checked before it is used, and nothing believed that the chain of
// frame headers, from the segment's header to what the successor names, does not bear out.

import UkehiBase
import UkehiEnvironment

extension FooterBuffer {
    /// The records of a sealed segment by its footer; nil if there is none that is right in all.
    static func read(
        _ segment: FoundSegment, successor: SegmentHeader
    ) throws(FileError) -> FooterBuffer? {
        let end = successor.predecessorEnd
        let first = UInt64(FooterFormat.headerBytes)
        guard segment.bytes > end, segment.bytes - end >= first else { return nil }
        let footer = FooterBuffer()
        func load(_ byteCount: Int) throws(FileError) -> Bool {
            try footer.fill(byteCount) { (buffer) throws(FileError) in
                try segment.file.read(into: buffer, at: end)
            }
        }
        guard try load(FooterFormat.headerBytes), let header = FooterHeader.decode(footer.base),
            header.segment == segment.id, header.incarnation == segment.header.incarnation,
            header.offset == end, header.lastLSN == successor.predecessorLastLSN,
            header.lastChecksum == successor.predecessorChecksum,
            header.recordBytes <= segment.bytes - end - first,
            try load(FooterFormat.headerBytes + Int(header.recordBytes)),
            CRC32C.checksum(footer.records) == header.recordChecksum,
            footer.isSound(segment.header, successor, frames: header.frames)
        else { return nil }
        return footer
    }

    /// Whether the records are those of a chain of frames that begins and ends as it must.
    private func isSound(
        _ segment: SegmentHeader, _ successor: SegmentHeader, frames: UInt32
    ) -> Bool {
        var offset = UInt64(SegmentFormat.firstFrameOffset)
        var lsn = segment.firstLSN
        var checksum = segment.predecessorChecksum
        var left = frames
        var cursor = FooterCursor(records)
        while let record = cursor.next() {
            let header = record.header
            guard left > 0, header.segment == segment.segment,
                header.incarnation == segment.incarnation, header.offset == offset,
                header.lsn == lsn, header.previousChecksum == checksum, record.isSound
            else { return false }
            offset += UInt64(header.frameBytes)
            lsn += 1
            checksum = header.checksum
            left -= 1
        }
        return cursor.isAtEnd && left == 0 && offset == successor.predecessorEnd
            && lsn == successor.predecessorLastLSN + 1 && checksum == successor.predecessorChecksum
    }
}

/// One frame as a footer has it; the memory is the footer's.
struct FooterRecord {
    var header: FrameHeader
    var directory: UnsafeRawPointer
    var details: UnsafeRawBufferPointer

    func item(at position: Int) -> BatchItem? {
        BatchItem.decode(directory + position * FrameFormat.itemBytes)
    }

    /// Whether directory and details are what this frame's header and each other promise.
    fileprivate var isSound: Bool {
        let covered = UnsafeRawBufferPointer(start: directory, count: header.directoryBytes)
        guard CRC32C.checksum(covered) == header.directoryChecksum else { return false }
        var bodies = 0
        var cursor = DetailCursor(details)
        for position in 0..<header.itemCount {
            guard let item = item(at: position) else { return false }
            bodies += Int(item.bodyBytes)
            let detail = cursor.detail(of: position)
            switch item.kind {
            case .append, .rewrite:
                if let detail, !FooterRecord.areRuns(detail, of: item) { return false }
            default:
                let body = detail ?? UnsafeRawBufferPointer(start: nil, count: 0)
                let seed = FrameFormat.bodySeed(region: item.region, firstIndex: item.firstIndex)
                guard body.count == Int(item.bodyBytes),
                    CRC32C.checksum(body, seed: seed) == item.bodyChecksum
                else { return false }
            }
        }
        return bodies == header.bodyBytes && cursor.isAtEnd
    }

    private static func areRuns(_ bytes: UnsafeRawBufferPointer, of item: BatchItem) -> Bool {
        guard let base = bytes.baseAddress, bytes.count % FooterFormat.runBytes == 0,
            bytes.count >= 2 * FooterFormat.runBytes
        else { return false }
        var last: TermRun?
        for at in stride(from: 0, to: bytes.count, by: FooterFormat.runBytes) {
            let run = TermRun(run: base + at)
            if let last {
                guard run.start > last.start, run.term > last.term else { return false }
            } else if run.start != item.firstIndex {
                return false
            }
            last = run
        }
        return last.map { $0.start < item.endIndex && $0.term == item.lastTerm } ?? false
    }
}

extension TermRun {
    /// As a footer has it.
    init(run base: UnsafeRawPointer) {
        self.init(
            start: LogIndex(base.get(UInt64.self, at: 0)), term: Term(base.get(UInt64.self, at: 8)))
    }
}

/// Walks over records.
struct FooterCursor {
    private let records: UnsafeRawBufferPointer
    private var at = 0

    init(_ records: UnsafeRawBufferPointer) { self.records = records }

    var isAtEnd: Bool { at == records.count }

    /// The next record whose lengths fit; nil at the end, or before what is none.
    mutating func next() -> FooterRecord? {
        guard let base = records.baseAddress, records.count - at >= FrameFormat.headerBytes + 4,
            let header = FrameHeader.decode(base + at),
            records.count - at >= header.bodyStart + 4
        else { return nil }
        let directory = base + at + FrameFormat.headerBytes
        let details = at + header.bodyStart + 4
        let count = Int(base.get(UInt32.self, at: details - 4))
        guard records.count - details >= count else { return nil }
        at = details + count
        return FooterRecord(
            header: header, directory: directory,
            details: UnsafeRawBufferPointer(start: base + details, count: count))
    }
}

/// Walks over one record's details, in the order of its items.
struct DetailCursor {
    private let details: UnsafeRawBufferPointer
    private var at = 0

    init(_ details: UnsafeRawBufferPointer) { self.details = details }

    var isAtEnd: Bool { at == details.count }

    /// What the item at `position` has, if it is the next one that has anything.
    mutating func detail(of position: Int) -> UnsafeRawBufferPointer? {
        guard let base = details.baseAddress,
            details.count - at >= FooterFormat.detailHeaderBytes,
            Int(base.get(UInt32.self, at: at)) == position
        else { return nil }
        let count = Int(base.get(UInt32.self, at: at + 4))
        let start = at + FooterFormat.detailHeaderBytes
        guard details.count - start >= count else { return nil }
        at = start + count
        return UnsafeRawBufferPointer(start: base + start, count: count)
    }
}
