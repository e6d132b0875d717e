// Dead segments between two lives.
//
// Purging comes in bursts: a node frees once a second what it filled in that second. With room for one
// dead file only, a log that fills two segments from burst to burst deletes one and fills a new one with
// zeros: 1.5 bytes to the disk for each byte of the log (docs/decisions/0010). So as many are kept as
// were begun from one burst to the next, and let go when that becomes fewer.

/// The files of dead segments that the preparer may use again, still under their old names.
struct IdleSegments {
    private var files: ContiguousArray<SegmentFile> = []
    private let most: Int
    /// Segments begun since the last burst of purging ended.
    private var begun = 0
    /// The most that were, from one burst to the next, in sixteenths: fading, since bursts differ.
    private var expected = 0

    init(segmentBytes: Int) {
        most = min(
            max(WALLimits.maxIdleSegmentBytes / segmentBytes, 1), WALLimits.maxIdleSegments)
    }

    var count: Int { files.count }
    /// How many are worth their space: what is begun until the next burst, and one, since the next
    /// segment is prepared as soon as one is begun.
    private var limit: Int { min(max(begun, (expected + 15) / 16) + 1, most) }
    var hasRoom: Bool { files.count < limit }

    /// A segment was begun, and its file is gone from the spare ones.
    mutating func segmentBegan() { begun += 1 }

    mutating func add(_ segment: SegmentFile) { files.append(segment) }
    mutating func take() -> SegmentFile? { files.popLast() }

    /// A burst of purging has ended.
    mutating func burstEnded() {
        expected = max(begun * 16, expected - (expected + 15) / 16)
        begun = 0
    }

    /// One that is no longer worth its space.
    mutating func takeExcess() -> SegmentFile? { files.count > limit ? files.popLast() : nil }
}
