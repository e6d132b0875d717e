// What an operator loses by cutting a log at a damaged place: told before anybody decides it.

package import UkehiBase
import UkehiEnvironment

/// Records from a damaged frame on, as far as they can still be read.
package struct LogLoss: Sendable, Hashable {
    /// Entries of one region.
    package struct Entries: Sendable, Hashable {
        package var region: RegionID
        package var first: LogIndex
        package var last: LogIndex
        /// Whether they fail their own checksum; the others only stand behind the damage.
        package var isDamaged: Bool
    }

    /// The damaged ones first, then ascending by region.
    package var entries: [Entries] = []
    /// Readable frames behind the damaged one.
    package var framesBehind = 0
    /// Whether the damaged frame's own directory cannot be read: what was in it is not known.
    package var isUnknown = false
}

extension WALInspector {
    /// Reads everything from a damaged place on that can be read.
    func loss(from place: LogPosition) -> LogLoss {
        var loss = LogLoss()
        do throws(WALError) {
            let found = try open()
            guard let start = found.segments.firstIndex(where: { $0.id == place.segment }) else {
                return loss
            }
            var damaged: [BatchItem] = []
            var behind: [RegionID: ClosedRange<UInt64>] = [:]
            for position in start..<found.segments.count {
                let isFirst = position == start
                try attempt { () throws(FileError) in
                    try take(
                        found.segments[position], found.successor(of: position),
                        isFirst ? place.offset : UInt64(SegmentFormat.firstFrameOffset),
                        isDamaged: isFirst, &loss, &damaged, &behind)
                }
            }
            loss.entries = damaged.map {
                LogLoss.Entries(
                    region: $0.region, first: $0.firstIndex, last: $0.endIndex - 1,
                    isDamaged: true)
            }
            loss.entries += behind.sorted { $0.key < $1.key }.map {
                LogLoss.Entries(
                    region: $0.key, first: LogIndex($0.value.lowerBound),
                    last: LogIndex($0.value.upperBound), isDamaged: false)
            }
        } catch {
            loss.isUnknown = true
        }
        return loss
    }

    private func take(
        _ segment: FoundSegment, _ successor: SegmentHeader?, _ offset: UInt64, isDamaged: Bool,
        _ loss: inout LogLoss, _ damaged: inout [BatchItem],
        _ behind: inout [RegionID: ClosedRange<UInt64>]
    ) throws(FileError) {
        func reader() -> FrameReader {
            FrameReader(
                file: segment.file, header: segment.header,
                limit: successor?.predecessorEnd ?? segment.bytes)
        }
        func add(_ items: some Sequence<BatchItem>) {
            for item in items where item.count > 0 {
                let range = item.firstIndex.rawValue...(item.endIndex.rawValue - 1)
                let known = behind[item.region] ?? range
                let lower = min(known.lowerBound, range.lowerBound)
                behind[item.region] = lower...max(known.upperBound, range.upperBound)
            }
        }
        if isDamaged {
            switch try reader().frame(at: offset) {
            case .rotten(_, let defect):
                damaged += defect.damaged.filter { $0.count > 0 }
                add(defect.intact)
            case .invalid: loss.isUnknown = true
            case .valid, .end: break
            }
        }
        // Two readers: the one that looks for headers keeps its window while frames are read.
        let frames = reader()
        try reader().headers(from: offset) { (header) throws(FileError) in
            guard !isDamaged || header.offset > offset else { return }
            guard case .valid(let frame) = try frames.frame(at: header.offset) else { return }
            loss.framesBehind += 1
            add(frame.items)
        }
    }
}
