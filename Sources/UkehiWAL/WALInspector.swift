// The log as the tools see it: read-only, without the lock, safe beside a running node.
//
// A running node appends, rotates and purges while its directory is read, so that what was read
// first may not fit what was read last. A problem counts only if it is there again when everything
// is read again; and frames that are being written look like the torn tail they would be.

package import UkehiBase
package import UkehiEnvironment

/// Reads a log's directory; changes nothing and needs no keys.
package struct WALInspector: Sendable {
    private let fileSystem: any FileSystem
    /// Where the segments are.
    package let directory: String

    /// - Parameter directory: The log's directory, or a node's data directory with the log in `wal`.
    package init(fileSystem: any FileSystem, directory: String) {
        self.fileSystem = fileSystem
        let inner = LogNames.join(directory, "wal")
        let isData = fileSystem.exists(LogNames.join(inner, LogNames.mark))
        self.directory = isData ? inner : directory
    }

    // MARK: What there is to see

    /// One segment file.
    package struct SegmentInfo: Sendable, Hashable {
        package var segment: UInt64
        package var fileName: String
        package var fileBytes: UInt64
        package var capacity: UInt64
        package var log: UInt64
        package var incarnation: UInt64
        package var firstLSN: UInt64
        package var predecessor: UInt64
        package var predecessorEnd: UInt64
        package var predecessorLastLSN: UInt64
        /// Where the successor says that it ends; nil for the newest.
        package var statedEnd: UInt64?
    }

    /// One frame, with the records in it.
    package struct FrameInfo: Sendable, Hashable {
        package var segment: UInt64
        package var offset: UInt64
        package var bytes: Int
        package var lsn: UInt64
        /// The frame that this one claims as durable, with all before it.
        package var durableLSN: UInt64
        package var isClaim: Bool
        package var checksum: UInt32
        package var batches: [BatchItem]
    }

    /// One entry, without its data.
    package struct EntryInfo: Sendable, Hashable {
        package var region: RegionID
        package var index: LogIndex
        package var term: Term
        package var kind: EntryKind
        package var bytes: Int
        /// CRC32C of the data.
        package var checksum: UInt32
        package var lsn: UInt64
        /// Of the record, in its segment.
        package var position: LogPosition
        /// The entry's data, shared; for tools that decode it.
        package var data: Bytes
    }

    /// One thing met on the way through the log.
    package enum Record: Sendable {
        case segment(SegmentInfo)
        case frame(FrameInfo)
        case entry(EntryInfo)
    }

    // MARK: Dump

    /// Visits segments, frames and entries in log order, superseded ones included, until `visit`
    /// returns false.
    ///
    /// - Parameter region: Only frames and entries of this one.
    /// - Throws: ``WALError``, at the first thing that cannot be read and is no torn tail.
    package func dump(
        region: RegionID? = nil, _ visit: (Record) -> Bool
    ) throws(WALError) {
        let found = try open()
        var replay = Replay(isComplete: found.isComplete)
        for position in found.segments.indices {
            let segment = found.segments[position]
            let successor = found.successor(of: position)
            guard visit(.segment(SegmentInfo(segment, successor))) else { return }
            do throws(WALError) {
                _ = try replay.read(segment, successor: successor) { (frame) throws(WALError) in
                    guard visitFrame(frame, region, visit) else { throw WALError.stopVisiting }
                }
            } catch {
                if error == .stopVisiting { return }
                throw error
            }
        }
    }

    private func visitFrame(
        _ frame: FrameView, _ region: RegionID?, _ visit: (Record) -> Bool
    ) -> Bool {
        let items = frame.items.filter { region == nil || $0.region == region }
        guard !items.isEmpty || region == nil else { return true }
        let header = frame.header
        let info = FrameInfo(
            segment: header.segment, offset: header.offset, bytes: header.frameBytes,
            lsn: header.lsn, durableLSN: header.durableLSN, isClaim: header.isClaim,
            checksum: header.checksum, batches: Array(items))
        guard visit(.frame(info)) else { return false }
        for (item, offset) in zip(frame.items, frame.bodyOffsets())
        where item.kind == .append && (region == nil || item.region == region) {
            let raw = frame.body(at: offset, count: Int(item.bodyBytes))
            let body = Bytes(copying: raw)
            var goesOn = true
            _ = forEachRecord(of: item, in: raw) { position, record in
                guard goesOn else { return }
                let data = body[record.offset..<record.offset + record.count]
                let place = header.offset + UInt64(offset + record.offset)
                goesOn = visit(
                    .entry(
                        EntryInfo(
                            region: item.region, index: item.firstIndex + UInt64(position),
                            term: record.term, kind: record.kind, bytes: record.count,
                            checksum: CRC32C.checksum(data), lsn: header.lsn,
                            position: LogPosition(
                                segment: header.segment,
                                offset: place - UInt64(Entry.recordHeaderBytes)),
                            data: data)))
            }
            guard goesOn else { return false }
        }
        return true
    }

    // MARK: Verify

    /// What ``verify()`` found.
    package struct VerifyReport: Sendable, Hashable {
        package var segments = 0
        package var frames = 0
        package var batches = 0
        package var entries: UInt64 = 0
        package var frameBytes: UInt64 = 0
        package var lastLSN: UInt64 = 0
        /// Where the log ends, in its newest segment.
        package var end: LogPosition?
        /// Readable frames behind the end, in flight when the log was cut: never acknowledged.
        package var discardedFrames = 0
        /// Damage that costs nothing: one of two copies.
        package var warnings: [String] = []
        /// The first thing that makes a node refuse to start; nil: the log is sound.
        package var problem: WALError?
    }

    /// Checks every checksum, every chain and every rule of replay.
    package func verify() -> VerifyReport {
        settled {
            var report = VerifyReport()
            do throws(WALError) {
                try verify(&report)
            } catch {
                report.problem = error
            }
            return (report, report.problem)
        }
    }

    private func verify(_ report: inout VerifyReport) throws(WALError) {
        let found = try open()
        var replay = Replay(isComplete: found.isComplete)
        for position in found.segments.indices {
            let segment = found.segments[position]
            report.segments += 1
            if segment.lostCopy {
                report.warnings.append(
                    "segment \(segment.id): one of the header's two copies is unreadable")
            }
            let end = try replay.read(
                segment, successor: found.successor(of: position)
            ) { (frame) throws(WALError) in
                report.frames += 1
                report.batches += frame.items.count
                report.entries += frame.items.reduce(0) { $0 + UInt64($1.count) }
                report.frameBytes += UInt64(frame.header.frameBytes)
            }
            report.lastLSN = end.lastLSN
            report.end = LogPosition(segment: segment.id, offset: end.offset)
            report.discardedFrames = end.discardedFrames
        }
        try replay.finish()
    }

    // MARK: Shared

    func open() throws(WALError) -> LogDirectory {
        let found = try LogDirectory.read(fileSystem, directory, newestForWriting: false)
        guard !found.segments.isEmpty else {
            throw WALError(
                .unavailable,
                "There is no log in \(directory). Name a node's data directory, or the wal "
                    + "directory in it.")
        }
        return found
    }

    /// Repeats what met a problem until two runs in a row agree on it, or there is none.
    func settled<R>(_ attempt: () -> (R, WALError?)) -> R {
        var (result, problem) = attempt()
        for _ in 0..<4 {
            guard let first = problem else { break }
            (result, problem) = attempt()
            if problem == first { break }
        }
        return result
    }
}

extension WALInspector.SegmentInfo {
    init(_ found: FoundSegment, _ successor: SegmentHeader?) {
        self.init(
            segment: found.id, fileName: LogNames.segment(found.id), fileBytes: found.bytes,
            capacity: found.header.capacity, log: found.header.log,
            incarnation: found.header.incarnation, firstLSN: found.header.firstLSN,
            predecessor: found.header.predecessor, predecessorEnd: found.header.predecessorEnd,
            predecessorLastLSN: found.header.predecessorLastLSN,
            statedEnd: successor?.predecessorEnd)
    }
}

extension LogDirectory {
    func successor(of position: Int) -> SegmentHeader? {
        position + 1 < segments.count ? segments[position + 1].header : nil
    }
}

extension WALError {
    /// Ends a visit from inside; never leaves this module.
    fileprivate static let stopVisiting = WALError(.failed, "The visitor wanted no more.")
}
