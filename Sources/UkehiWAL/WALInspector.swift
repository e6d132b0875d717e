// The log as the tools see it: read-only, without the lock, safe beside a running node.
//
// A running node appends, rotates and purges while its directory is read, so that what was read
// first may not fit what was read last. A problem counts only if it is there again when everything
// is read again; and frames that are being written look like the torn tail they would be.

package import UkehiBase
package import UkehiEnvironment

/// Reads a log's directory; changes nothing and needs no keys.
package struct WALInspector: Sendable {
    let fileSystem: any FileSystem
    /// Where the segments are.
    package let directory: String
    /// Told now and then how many bytes were read of how many; a second reading begins again.
    package var onProgress: (@Sendable (_ done: UInt64, _ total: UInt64) -> Void)?

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
        /// Of the record, in its segment; of a compressed one, of the body that it is in.
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

    // MARK: Verify

    /// What ``verify()`` found.
    package struct VerifyReport: Sendable, Hashable {
        package var segments = 0
        package var frames = 0
        /// Indexes at segments' ends, each of them that of its frames.
        package var footers = 0
        package var batches = 0
        package var entries: UInt64 = 0
        package var frameBytes: UInt64 = 0
        /// Bodies that are compressed, and the bytes of all bodies: as stored, and decompressed.
        package var compressedBatches = 0
        package var bodyBytes: UInt64 = 0
        package var rawBytes: UInt64 = 0
        package var lastLSN: UInt64 = 0
        /// Where the log ends, in its newest segment.
        package var end: LogPosition?
        /// Readable frames behind the end, in flight when the log was cut: never acknowledged.
        package var discardedFrames = 0
        /// Damage that costs nothing: one of two copies.
        package var warnings: [String] = []
        /// The first thing that makes a node refuse to start; nil: the log is sound.
        package var problem: WALError?
        /// That is a segment's index only.
        package var hasWrongFooter = false
        /// What would go with it, if the log were cut there.
        package var loss = LogLoss()
    }

    /// Checks every checksum, every chain and every rule of replay.
    package func verify() -> VerifyReport {
        var report = settled {
            var report = VerifyReport()
            do throws(WALError) {
                try verify(&report)
            } catch {
                report.problem = error
            }
            return (report, report.problem)
        }
        // A wrong index costs nothing, if it is not gone by.
        if let place = report.problem?.position, !report.hasWrongFooter {
            report.loss = loss(from: place)
        }
        return report
    }

    private func verify(_ report: inout VerifyReport) throws(WALError) {
        let found = try open()
        var replay = Replay(isComplete: found.isComplete)
        var progress = ReadProgress(found, onProgress)
        for position in found.segments.indices {
            let segment = found.segments[position]
            progress.begin(position)
            report.segments += 1
            if segment.lostCopy {
                report.warnings.append(
                    "segment \(segment.id): one of the header's two copies is unreadable")
            }
            let successor = found.successor(of: position)
            let records = FooterBuffer()
            var isComparable = true
            let end = try replay.read(segment, successor: successor) { (frame) throws(WALError) in
                progress.read(frame)
                if !frame.damaged.isEmpty || records.add(frame) != nil { isComparable = false }
                report.frames += 1
                report.batches += frame.items.count
                for item in frame.items {
                    report.entries += UInt64(item.count)
                    report.bodyBytes += UInt64(item.bodyBytes)
                    report.rawBytes += UInt64(item.rawBytes)
                    if item.isCompressed { report.compressedBatches += 1 }
                }
                report.frameBytes += UInt64(frame.header.frameBytes)
            }
            if isComparable, let successor {
                try checkFooter(of: segment, successor, against: records, &report)
            }
            report.lastLSN = end.lastLSN
            report.end = LogPosition(segment: segment.id, offset: end.offset)
            report.discardedFrames = end.discardedFrames
        }
        try replay.finish()
    }

    /// A node opens the segment by what its footer says, and some of that stands in no other checksum.
    private func checkFooter(
        of segment: FoundSegment, _ successor: SegmentHeader, against scanned: FooterBuffer,
        _ report: inout VerifyReport
    ) throws(WALError) {
        let footer = try attempt { () throws(FileError) in
            try FooterBuffer.read(segment, successor: successor)
        }
        guard let footer else { return }
        report.footers += 1
        guard footer.records.elementsEqual(scanned.records) else {
            report.hasWrongFooter = true
            throw WALError(
                .corrupted,
                "The index at the end of a segment is not that of its frames, which are sound. A node "
                    + "would go by it. With zeros in the 4096 bytes there it reads the frames instead.",
                at: LogPosition(segment: segment.id, offset: successor.predecessorEnd))
        }
    }

    // MARK: Shared

    func open() throws(WALError) -> LogDirectory {
        let found = try LogDirectory.read(fileSystem, directory, forWriting: false)
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

/// How far a reading has come; tells its owner at most once for each 16 MiB.
struct ReadProgress {
    private let tell: (@Sendable (UInt64, UInt64) -> Void)?
    /// Bytes before each segment, and of all.
    private var starts: [UInt64] = []
    private var total: UInt64 = 0
    private var start: UInt64 = 0
    private var due: UInt64 = 0

    init(_ found: LogDirectory, _ tell: (@Sendable (UInt64, UInt64) -> Void)?) {
        self.tell = tell
        for position in found.segments.indices {
            starts.append(total)
            total += found.successor(of: position)?.predecessorEnd ?? found.segments[position].bytes
        }
    }

    mutating func begin(_ position: Int) {
        start = starts[position]
        report(start)
    }

    mutating func read(_ frame: FrameView) {
        report(start + frame.header.offset + UInt64(frame.header.frameBytes))
    }

    private mutating func report(_ done: UInt64) {
        guard let tell, done >= due else { return }
        due = done + 16 << 20
        tell(done, total)
    }
}
