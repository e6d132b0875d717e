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
    /// Whether its footer says so, and not its frames.
    var isFooter = false
    /// Where bodies begin that cannot be read, from the segment's start.
    var damaged: Set<UInt64> = []
    /// What is wrong behind the records.
    var failure: WALError?

    /// Reads a segment; the successor says where it ends, nil for the newest.
    static func read(
        _ segment: FoundSegment, successor: SegmentHeader?, usesFooter: Bool, policy: DamagePolicy
    ) -> SegmentReading {
        if usesFooter, let successor,
            let footer = try? FooterBuffer.read(segment, successor: successor)
        {
            return SegmentReading(
                records: footer,
                end: SegmentEnd(
                    offset: successor.predecessorEnd, lastLSN: successor.predecessorLastLSN,
                    lastChecksum: successor.predecessorChecksum,
                    highestLSN: successor.predecessorLastLSN), isFooter: true)
        }
        return scan(segment, successor: successor, policy)
    }

    private static func scan(
        _ segment: FoundSegment, successor: SegmentHeader?, _ policy: DamagePolicy
    ) -> SegmentReading {
        let records = FooterBuffer()
        var damaged: Set<UInt64> = []
        do throws(WALError) {
            let end = try SegmentScan.run(segment, successor: successor, policy: policy) {
                (frame, place) throws(WALError) in
                if let problem = records.add(frame) {
                    throw Replay.corruption(lsn: frame.header.lsn, problem, at: place)
                }
                guard !frame.damaged.isEmpty else { return }
                let offsets = frame.bodyOffsets()
                for position in frame.damaged {
                    damaged.insert(place.offset + UInt64(offsets[position]))
                }
            }
            return SegmentReading(records: records, end: end, damaged: damaged)
        } catch {
            return SegmentReading(
                records: records,
                end: SegmentEnd(offset: 0, lastLSN: 0, lastChecksum: 0, highestLSN: 0),
                failure: error)
        }
    }

    /// Reads all segments of a log, as many at a time as there are threads, and hands them over in
    /// their order. In memory is what that many of them hold, bodies not included.
    static func forEach(
        in found: LogDirectory, options: WALOptions, _ parallel: any ParallelRunner,
        _ take: (ArraySlice<FoundSegment>, [SegmentReading]) throws(WALError) -> Void
    ) throws(WALError) {
        let width = max(parallel.width, 1)
        for first in stride(from: 0, to: found.segments.count, by: width) {
            let segments = found.segments[first..<min(first + width, found.segments.count)]
            let successors = segments.indices.map { found.successor(of: $0) }
            let usesFooter = segments.map { _ in
                options.readsFooters && !options.rarePaths.takes(.footerIgnored)
            }
            let readings = Mutex([SegmentReading?](repeating: nil, count: segments.count))
            parallel.forEach(segments.count) { position in
                let reading = read(
                    segments[first + position], successor: successors[position],
                    usesFooter: usesFooter[position], policy: options.damagePolicy)
                readings.withLock { $0[position] = reading }
            }
            try take(segments, readings.withLock { $0 }.compactMap { $0 })
        }
    }
}
