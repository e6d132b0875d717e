// Reading one segment's frames in order, each checked in full: what recovery, audit and verify share.
// Read-only.
//
// Torn or corrupt (DESIGN.md section 5): in the newest segment, frames may be missing that were in
// flight at a crash, even before valid ones. Such a frame, and all behind it, was never
// acknowledged, unless some frame that can be read claims it as durable: then it was, and its loss
// is corruption. In a segment with a successor every frame up to the stated end was durable.

import UkehiBase
import UkehiEnvironment

/// Where reading stopped in one segment.
struct SegmentEnd {
    var offset: UInt64
    var lastLSN: UInt64
    var lastChecksum: UInt32
    /// The highest LSN of any readable frame header, discarded ones included.
    var highestLSN: UInt64
    /// Valid frame headers behind the end: in flight at a crash, discarded.
    var discardedFrames = 0

    /// Whether a frame found here is the one that is due.
    fileprivate func isFollowed(by header: FrameHeader, lsn: UInt64) -> Bool {
        header.lsn == lsn && header.previousChecksum == lastChecksum
    }

    fileprivate mutating func advance(past header: FrameHeader) {
        offset += UInt64(header.frameBytes)
        lastLSN = header.lsn
        lastChecksum = header.checksum
        highestLSN = header.lsn
    }
}

extension FrameDefect {
    /// Whether peers have all that is lost: entries. What a damaged logical record said, nobody
    /// else knows.
    fileprivate var canBeRepaired: Bool {
        damaged.allSatisfy(\.holdsEntries)
    }
}

/// Reads a segment from its first frame to its end.
enum SegmentScan {
    /// Hands each frame and its place to `take`. The successor says where the segment ends; nil for
    /// the newest.
    ///
    /// - Parameter policy: `.repair`: acknowledged frames are handed over, too, where only bodies of
    ///   appends, or one of two directories, are damaged; ``FrameView/damaged`` names them.
    static func run(
        _ segment: FoundSegment, successor: SegmentHeader?, policy: DamagePolicy = .refuse,
        take: (FrameView, LogPosition) throws(WALError) -> Void
    ) throws(WALError) -> SegmentEnd {
        let header = segment.header
        let limit = successor?.predecessorEnd ?? segment.bytes
        let reader = FrameReader(file: segment.file, header: header, limit: limit)
        var end = SegmentEnd(
            offset: UInt64(SegmentFormat.firstFrameOffset), lastLSN: header.predecessorLastLSN,
            lastChecksum: header.predecessorChecksum, highestLSN: header.firstLSN - 1)
        var expected = header.firstLSN
        var isSecondLook = false
        reading: while true {
            let place = LogPosition(segment: segment.id, offset: end.offset)
            let defect: FrameDefect
            switch try attempt({ () throws(FileError) in try reader.frame(at: end.offset) }) {
            case .end: break reading
            case .invalid(let found), .rotten(_, let found): defect = found
            case .valid(let frame):
                if end.isFollowed(by: frame.header, lsn: expected) {
                    try take(frame, place)
                    end.advance(past: frame.header)
                    expected += 1
                    isSecondLook = false
                    continue
                }
                defect = FrameDefect(
                    reason: "frame \(frame.header.lsn) is there where \(expected) was due",
                    header: frame.header)
            }
            let evidence = try Evidence.gather(reader, from: end.offset, expected: expected)
            #if BugBank
                let isCorrupt =
                    PlantedBug.corruptionIsTornTail.isPlanted && successor == nil
                    ? false : successor != nil || evidence.claimed >= expected
            #else
                let isCorrupt = successor != nil || evidence.claimed >= expected
            #endif
            if isCorrupt {
                // Beside a running node the frame may have been written in between.
                if !isSecondLook {
                    isSecondLook = true
                    reader.forget()
                    continue
                }
                // Gathering evidence has read over the frame: it is read again.
                if policy == .repair, defect.canBeRepaired,
                    case .rotten(let frame, _) =
                        try attempt({ () throws(FileError) in try reader.frame(at: end.offset) }),
                    end.isFollowed(by: frame.header, lsn: expected)
                {
                    try take(frame, place)
                    end.advance(past: frame.header)
                    expected += 1
                    isSecondLook = false
                    continue
                }
                throw corruption(defect, at: place, lsn: expected, evidence)
            }
            end.highestLSN = max(end.highestLSN, evidence.highestLSN)
            end.discardedFrames = evidence.frames
            break
        }
        if let successor {
            guard end.offset == limit, end.lastLSN == successor.predecessorLastLSN,
                end.lastChecksum == successor.predecessorChecksum
            else {
                throw WALError(
                    .corrupted,
                    "The log was not opened: segment \(segment.id) ends with frame \(end.lastLSN), "
                        + "but its successor says frame \(successor.predecessorLastLSN). Restore "
                        + "the file, or restore the node from its peers.",
                    at: LogPosition(segment: segment.id, offset: end.offset))
            }
        }
        return end
    }

    // MARK: What the frames behind an invalid one say

    private struct Evidence {
        var claimed: UInt64 = 0
        var highestLSN: UInt64 = 0
        var frames = 0

        static func gather(
            _ reader: FrameReader, from offset: UInt64, expected: UInt64
        ) throws(WALError) -> Evidence {
            var evidence = Evidence()
            try attempt { () throws(FileError) in
                try reader.headers(from: offset) { header in
                    evidence.highestLSN = max(evidence.highestLSN, header.lsn)
                    evidence.claimed = max(evidence.claimed, header.durableLSN)
                    if header.lsn >= expected { evidence.frames += 1 }
                }
            }
            return evidence
        }
    }

    private static func corruption(
        _ defect: FrameDefect, at place: LogPosition, lsn: UInt64, _ evidence: Evidence
    ) -> WALError {
        var lost = "frame \(lsn)"
        if !defect.damaged.isEmpty {
            let regions = defect.damaged.prefix(8).map { item in
                item.count > 0
                    ? "entries \(item.firstIndex) to \(item.endIndex - 1) of \(item.region)"
                    : "a \(item.kind) record of \(item.region)"
            }
            let more = defect.damaged.count - regions.count
            lost += " with " + regions.joined(separator: ", ")
            if more > 0 { lost += " and \(more) more records" }
        }
        if evidence.frames > 0 { lost += ", and with it \(evidence.frames) frames behind it" }
        return WALError(
            .corrupted,
            "The log was not opened: \(defect.reason), but it was acknowledged as durable. Lost "
                + "would be \(lost). Nothing was changed; restore the file, or restore the node "
                + "from its peers.",
            at: place)
    }
}
