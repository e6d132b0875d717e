// Hot path: the active segment's footer grows as frames are placed; its memory is reused.
//
// From a frame's placing to a footer on disk. Nothing waits for a footer: it is written in the
// background once its segment is sealed, and one that is lost costs a later start a scan.

import UkehiBase
import UkehiEnvironment

/// A sealed segment's footer on its way to the disk.
struct SealedFooter {
    var segment: SegmentFile
    var records: FooterBuffer
    var offset: UInt64
    var lastLSN: UInt64
    var lastChecksum: UInt32
}

/// The active segment's footer, and those that wait to be written.
struct FooterQueue {
    private let isOn: Bool
    private var active: FooterBuffer?
    private var idle: FooterBuffer?
    private(set) var waiting: ContiguousArray<SealedFooter> = []

    init(_ options: WALOptions) { isOn = options.writesFooters }

    /// Room to keep for the active segment's footer if `group` goes into it.
    func fileBytes(adding group: Group) -> Int { active?.fileBytes(adding: group) ?? 0 }

    mutating func add(_ group: Group) { active?.add(group) }

    /// Begins the footer of a new active segment.
    mutating func begin(_ segment: SegmentFile) {
        guard isOn else { return }
        let buffer = active ?? idle ?? FooterBuffer()
        if active == nil { idle = nil }
        buffer.reset(limit: FooterFormat.limit(capacity: segment.header.capacity))
        active = buffer
    }

    /// Puts the footer of the segment that is no longer active into the queue, if it will have one.
    mutating func seal(
        _ segment: SegmentFile?, end: UInt64, lastLSN: UInt64, lastChecksum: UInt32
    ) {
        guard let segment, let records = active, !records.isGivenUp, records.frames > 0,
            // A first frame may be so large that no room was left: a segment never grows for this.
            end + UInt64(records.fileBytes) <= segment.header.capacity,
            waiting.count < WALLimits.maxWaitingFooters
        else { return }
        active = nil
        waiting.append(
            SealedFooter(
                segment: segment, records: records, offset: end, lastLSN: lastLSN,
                lastChecksum: lastChecksum))
    }

    /// Adds the footer of a segment that recovery sealed.
    mutating func add(recovered footer: SealedFooter) {
        guard footer.records.frames > 0,
            footer.offset + UInt64(footer.records.fileBytes) <= footer.segment.header.capacity
        else { return }
        waiting.append(footer)
    }

    /// Forgets the footer of a segment that is dead.
    mutating func drop(_ segment: SegmentFile) {
        guard let position = waiting.firstIndex(where: { $0.segment === segment }) else { return }
        idle = waiting.remove(at: position).records
    }

    mutating func next() -> SealedFooter? { waiting.isEmpty ? nil : waiting.removeFirst() }

    /// Takes memory back that is no longer needed.
    mutating func recycle(_ records: FooterBuffer) { idle = records }
}
