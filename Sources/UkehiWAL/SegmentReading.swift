// Reading segments before they are applied: each by itself, so that several can be read side by side.
//
//   sealed   by its footer where that is right in all, else as the newest
//   newest   frame by frame, bodies included
//
// What a segment holds is the same bytes in memory either way, so that what is made of it is, too.

import Synchronization
import UkehiBase
import UkehiEnvironment

/// What one segment says.
struct SegmentReading: Sendable {
    var records: FooterBuffer
    var end: SegmentEnd
    /// What is wrong behind the records.
    var failure: WALError?

    /// Reads a segment; the successor says where it ends, nil for the newest.
    static func read(
        _ segment: FoundSegment, successor: SegmentHeader?, usesFooter: Bool
    ) -> SegmentReading {
        if usesFooter, let successor,
            let footer = try? FooterBuffer.read(segment, successor: successor)
        {
            return SegmentReading(
                records: footer,
                end: SegmentEnd(
                    offset: successor.predecessorEnd, lastLSN: successor.predecessorLastLSN,
                    lastChecksum: successor.predecessorChecksum,
                    highestLSN: successor.predecessorLastLSN))
        }
        return scan(segment, successor: successor)
    }

    private static func scan(_ segment: FoundSegment, successor: SegmentHeader?) -> SegmentReading {
        let records = FooterBuffer()
        do throws(WALError) {
            let end = try SegmentScan.run(segment, successor: successor) {
                (frame, place) throws(WALError) in
                if let problem = records.add(frame) {
                    throw Replay.corruption(lsn: frame.header.lsn, problem, at: place)
                }
            }
            return SegmentReading(records: records, end: end)
        } catch {
            return SegmentReading(
                records: records,
                end: SegmentEnd(offset: 0, lastLSN: 0, lastChecksum: 0, highestLSN: 0),
                failure: error)
        }
    }

    /// Reads all segments of a log, several at a time, and hands them over in their order. In memory
    /// is at most what as many of them hold as are read at the same time, bodies not included.
    static func forEach(
        in found: LogDirectory, options: WALOptions, _ parallel: any ParallelRunner,
        _ take: (Int, SegmentReading) throws(WALError) -> Void
    ) throws(WALError) {
        var next = 0
        while next < found.segments.count {
            let first = next
            let count = min(max(parallel.width, 1), found.segments.count - first)
            let usesFooter = (0..<count).map { _ in
                options.readsFooters && !options.rarePaths.takes(.footerIgnored)
            }
            let readings = Mutex([SegmentReading?](repeating: nil, count: count))
            parallel.forEach(count) { position in
                let reading = read(
                    found.segments[first + position],
                    successor: found.successor(of: first + position),
                    usesFooter: usesFooter[position])
                readings.withLock { $0[position] = reading }
            }
            for (position, reading) in readings.withLock({ $0 }).enumerated() {
                guard let reading else { continue }
                try take(first + position, reading)
            }
            next += count
        }
    }
}
