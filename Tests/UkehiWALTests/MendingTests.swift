// Entries that rot: what opening, reading and the background check say of them under
// ``DamagePolicy/repair``, and what giving them back does.

import Synchronization
import Testing
import UkehiBase
import UkehiEnvironment
import UkehiSimulation

@testable import UkehiWAL

@Suite("Mending")
struct MendingTests {
    private static let damage = DamagedEntries(
        region: RegionID(1), first: LogIndex(3), last: LogIndex(4))
    private static let whole = SmallLog.entries(from: 3, count: 2)

    /// Two bodies of region 1, with one of region 2 beside each, all claimed.
    private static func pairs(_ options: WALOptions = SmallLog.options) throws -> SmallLog {
        let small = try SmallLog(options: options)
        var batch = small.log.newBatch()
        for round in UInt64(0)..<2 {
            batch.append(
                region: RegionID(1), hardState: HardState(term: Term(1), vote: PeerID(1)),
                entries: SmallLog.entries(from: 2 * round + 1, count: 2))
            batch.append(
                region: RegionID(2), hardState: nil,
                entries: SmallLog.entries(from: round + 1, count: 1))
            _ = try small.log.submit(&batch, lane: 0)
            small.pump()
        }
        small.claim()
        return small
    }

    /// The same with the second body of region 1 rotten.
    private static func rotten(_ options: WALOptions = SmallLog.options) throws -> SmallLog {
        let small = try pairs(options)
        small.fileSystem.flip(try SmallLog.body(small.fileSystem, 1, from: 3))
        return small
    }

    // MARK: Opening

    @Test("a rotten body of the newest segment is named, and nothing else is lost")
    func newest() throws {
        let sound = try Self.pairs()
        let rotten = try Self.rotten()
        #expect(openingError(rotten.fileSystem)?.code == .corrupted)
        let opened = try SmallLog.repaired(rotten.fileSystem)
        var expected = try SmallLog.reopened(sound.fileSystem).recovered
        #expect(expected.map(\.region) == [RegionID(1), RegionID(2)])
        expected[0].damaged = [Self.damage]
        #expect(opened.recovered == expected)
        #expect(opened.log.current(Self.damage) == Self.damage)

        #expect(try opened.read(1, 1...4) == SmallLog.entries(from: 1, count: 2))
        #expect(try opened.read(2, 1...2) == SmallLog.entries(from: 1, count: 2))
        for range in [UInt64(3)...4, 4...4] {
            let error = opened.readingError(1, range)
            #expect(error?.code == .corrupted && error?.damaged == Self.damage)
        }

        #expect(try opened.mend(1, from: 3, with: Self.whole) == .mended)
        #expect(opened.log.statistics.mendedBodies == 1)
        #expect(try opened.read(1, 1...4) == SmallLog.entries(from: 1, count: 4))
        #expect(opened.told.failure.withLock { $0 } == nil)
        opened.claim()
        #expect(opened.fileSystem.problem == nil)
        let again = try SmallLog.reopened(opened.fileSystem)
        expected[0].damaged = []
        #expect(again.recovered == expected)
        // Byte for byte what comes of the log that never rotted.
        let twin = try SmallLog.repaired(sound.fileSystem)
        twin.pump()
        twin.claim()
        #expect(opened.fileSystem.everything == twin.fileSystem.everything)
    }

    /// Segments of region 1, two entries of 1,500 bytes in a frame, and region 2.
    private static func segments(footers: Bool) throws -> (small: SmallLog, body: StoredBody) {
        var options = SmallLog.repairing
        options.writesFooters = footers
        let small = try SmallLog(options: options)
        for round in UInt64(0)..<20 {
            try small.submit(1, from: 2 * round + 1, count: 2, bytes: 1500)
            try small.submit(2, from: round + 1, bytes: 60)
            small.pump()
        }
        small.claim()
        let body = try SmallLog.body(small.fileSystem, 1, from: 3)
        #expect(body.segment == 1 && small.segmentNames.count > 2)
        small.fileSystem.flip(body, byte: 2000)
        return (small, body)
    }

    @Test("a rotten body of a sealed segment is named where the segment is scanned")
    func sealed() throws {
        let (small, _) = try Self.segments(footers: false)
        let opened = try SmallLog.repaired(small.fileSystem)
        #expect(opened.recovered.map(\.damaged) == [[Self.damage], []])
        #expect(opened.recovered.map(\.lastIndex) == [LogIndex(40), LogIndex(20)])
        #expect(opened.readingError(1, 3...4)?.damaged == Self.damage)
        let whole = SmallLog.entries(from: 3, count: 2, bytes: 1500)
        #expect(try opened.mend(1, from: 3, with: whole) == .mended)
        #expect(
            try opened.read(1, 1...40) == SmallLog.entries(from: 1, count: 40, bytes: 1500))
        #expect(openingError(opened.fileSystem) == nil)
        #expect(opened.fileSystem.problem == nil)
    }

    @Test("where opening believes a footer, reading and the background check find it")
    func footer() throws {
        var options = SmallLog.repairing
        options.scrubBytesPerSecond = 1 << 30
        func round(_ small: SmallLog) {
            let rounds = small.log.statistics.scrubRounds
            for _ in 0..<1000 where small.log.statistics.scrubRounds == rounds {
                small.log.scrubStep()
                small.clock.advance(byNanoseconds: 600_000_000_000)
            }
            #expect(small.log.statistics.scrubRounds > rounds)
        }
        let (small, _) = try Self.segments(footers: true)
        let opened = try SmallLog.repaired(small.fileSystem, options: options)
        #expect(opened.recovered.map(\.damaged) == [[], []])
        #expect(opened.readingError(1, 3...4)?.damaged == Self.damage)
        #expect(try opened.read(1, 1...4).count == 2)
        round(opened)
        #expect(opened.told.damages.withLock { $0.map(\.entries) } == [[Self.damage]])
        let whole = SmallLog.entries(from: 3, count: 2, bytes: 1500)
        #expect(try opened.mend(1, from: 3, with: whole) == .mended)
        #expect(try opened.read(1, 3...4) == whole)
        let again = try SmallLog.repaired(opened.fileSystem, options: options)
        round(again)
        #expect(again.told.damages.withLock { $0.isEmpty })
        #expect(again.fileSystem.problem == nil)
    }

    @Test("the first copy of a long directory may rot: the second one says the same")
    func repeatedDirectory() throws {
        let small = try SmallLog()
        for region in UInt64(1)...60 { try small.submit(region, from: 1, bytes: 10) }
        small.pump()
        small.claim()
        let sound = try SmallLog.reopened(small.fileSystem)
        let path = SmallLog.path(small.segmentNames[0])
        let directory = SegmentFormat.firstFrameOffset + FrameFormat.headerBytes
        small.fileSystem.flip(path, at: directory + 90)
        #expect(openingError(small.fileSystem)?.code == .corrupted)
        let opened = try SmallLog.repaired(small.fileSystem)
        #expect(opened.recovered == sound.recovered)
        for region in UInt64(1)...60 {
            #expect(try opened.read(region, 1...1).count == 1)
        }
        // The other one, too: of what is in the frame nothing is known.
        let bytes = small.fileSystem.contents(path) ?? []
        let second = try #require(bytes.lastIndex { $0 != 0 })
        let end = (second + 4096) & ~4095
        let claim = end - 4096
        small.fileSystem.flip(path, at: claim - 100)
        #expect(throws: WALError.self) { try SmallLog.repaired(small.fileSystem) }
    }

    @Test("a rotten last frame that nothing claims is a torn tail, and no damage")
    func tornTail() throws {
        let small = try SmallLog()
        try small.append(1, from: 1, count: 2)
        try small.append(1, from: 3, count: 2)
        let unclaimed = small.fileSystem.copy()
        small.claim()
        for (disk, last, damage) in [
            (unclaimed, 2, []), (small.fileSystem, 4, [Self.damage]),
        ] {
            disk.flip(try SmallLog.body(small.fileSystem, 1, from: 3))
            let opened = try SmallLog.repaired(disk)
            #expect(opened.recovered.map(\.lastIndex) == [LogIndex(UInt64(last))])
            #expect(opened.recovered.map(\.damaged) == [damage])
        }
    }

    /// Replay took the record without a body for the damaged one and refused the log (simulation seed
    /// 501010, scenario rot).
    @Test("a record without a body that stands where a damaged body begins is not damaged")
    func withoutBody() throws {
        let small = try SmallLog()
        var batch = LogBatch()
        for region in UInt64(1)...2 {
            batch.append(
                region: RegionID(region), hardState: nil,
                entries: SmallLog.entries(from: 1, count: 4))
        }
        _ = try small.log.submit(&batch, lane: 0)
        small.pump()
        let vote = HardState(term: Term(2), vote: PeerID(3), commit: LogIndex(2))
        batch.append(region: RegionID(2), hardState: vote, entries: [])
        batch.compact(region: RegionID(1), firstIndex: LogIndex(3), term: Term(1))
        batch.append(
            region: RegionID(1), hardState: nil, entries: SmallLog.entries(from: 5, count: 2))
        batch.append(region: RegionID(2), hardState: nil, entries: [])
        _ = try small.log.submit(&batch, lane: 0)
        small.pump()
        small.claim()
        var expected = try SmallLog.reopened(small.fileSystem).recovered
        small.fileSystem.flip(try SmallLog.body(small.fileSystem, 1, from: 5))
        expected[0].damaged = [
            DamagedEntries(region: RegionID(1), first: LogIndex(5), last: LogIndex(6))
        ]
        #expect(expected.map(\.firstIndex) == [LogIndex(3), LogIndex(1)])
        #expect(expected[1].hardState == vote)
        #expect(try SmallLog.repaired(small.fileSystem).recovered == expected)
    }

    @Test("what is superseded or compacted away later in the log is nobody's loss")
    func lostTwice() throws {
        for isCompacted in [false, true] {
            let small = try Self.pairs()
            let body = try SmallLog.body(small.fileSystem, 1, from: 3)
            if isCompacted {
                var batch = LogBatch()
                batch.compact(region: RegionID(1), firstIndex: LogIndex(5), term: Term(1))
                _ = try small.log.submit(&batch, lane: 0)
                small.pump()
            } else {
                try small.append(1, from: 3, count: 3, term: 2)
            }
            small.claim()
            small.fileSystem.flip(body)
            let opened = try SmallLog.repaired(small.fileSystem)
            #expect(opened.recovered.map(\.damaged) == [[], []])
            #expect(opened.recovered[0].lastIndex == LogIndex(isCompacted ? 4 : 5))
        }
    }

    // MARK: What refuses

    private static func refusal(_ fileSystem: SimulatedFileSystem) -> WALError? {
        let copy = fileSystem.copy()
        do throws(WALError) {
            _ = try SmallLog(copy, options: SmallLog.repairing, seed: 99)
            return nil
        } catch {
            #expect(copy.everything == fileSystem.everything, "a refusal changes nothing")
            return error
        }
    }

    @Test("what a rotten logical record said, no peer knows: births, tombstones, carried states")
    func logicalRecords() throws {
        let small = try SmallLog()
        var batch = LogBatch()
        batch.birth(region: RegionID(2), payload: "two of two", hardState: .empty)
        batch.birth(region: RegionID(3), payload: "three", hardState: .empty)
        _ = try small.log.submit(&batch, lane: 0)
        var index: UInt64 = 1
        while small.segmentNames.count < 4 {
            try small.append(1, from: index, bytes: 3000)
            index += 1
        }
        batch.compact(region: RegionID(1), firstIndex: LogIndex(index), term: Term(1))
        batch.tombstone(region: RegionID(3), payload: "merged away")
        _ = try small.log.submit(&batch, lane: 0)
        small.pump()
        small.claim()
        // The birth of region 2 is in the first segment, which can go once it is said again.
        let before = small.fileSystem.copy()
        while case .carried = try small.log.purgeStep() { small.pump() }
        small.claim()
        var kinds: Set<RecordKind> = []
        for disk in [before, small.fileSystem] {
            for body in try SmallLog.bodies(disk) where body.item.kind != .append {
                let rotten = disk.copy()
                rotten.flip(body, byte: 3)
                do throws(WALError) {
                    let opened = try SmallLog(rotten, options: SmallLog.scanning, seed: 99)
                    Issue.record("\(body.item.kind) opened: \(opened.recovered)")
                } catch {
                    #expect(error.code == .corrupted && error.damaged == nil)
                    #expect(error.message.contains("\(body.item.kind) record"))
                    kinds.insert(body.item.kind)
                }
            }
        }
        #expect(kinds == [.birth, .tombstone, .carry])
    }

    @Test("a frame with rotten entries and a rotten birth refuses")
    func both() throws {
        let small = try SmallLog()
        var batch = LogBatch()
        batch.append(
            region: RegionID(1), hardState: nil, entries: SmallLog.entries(from: 1, count: 1))
        batch.birth(region: RegionID(2), payload: "two of two", hardState: .empty)
        _ = try small.log.submit(&batch, lane: 0)
        small.pump()
        small.claim()
        let bodies = try SmallLog.bodies(small.fileSystem)
        #expect(bodies.map(\.item.kind) == [.append, .birth])
        small.fileSystem.flip(bodies[0])
        #expect(Self.refusal(small.fileSystem) == nil)
        let rotten = try SmallLog()
        batch.append(
            region: RegionID(1), hardState: nil, entries: SmallLog.entries(from: 1, count: 1))
        batch.birth(region: RegionID(2), payload: "two of two", hardState: .empty)
        _ = try rotten.log.submit(&batch, lane: 0)
        rotten.pump()
        rotten.claim()
        for body in bodies { rotten.fileSystem.flip(body, byte: 5) }
        #expect(Self.refusal(rotten.fileSystem)?.code == .corrupted)
    }

    /// What the log holds before the body that rots, the terms of that body's entries, whether it opens.
    private struct TermCase: CustomTestStringConvertible, Sendable {
        var testDescription: String
        var before: @Sendable (inout LogBatch) -> Void = { _ in }
        var first: UInt64 = 1
        var terms: [UInt64]
        var isCompressed = false
        var opens: Bool
    }

    private static func entries(_ terms: [UInt64], from first: UInt64) -> [Entry] {
        terms.enumerated().map { position, term in
            Entry(
                term: Term(term), index: LogIndex(first + UInt64(position)),
                data: Bytes([UInt8](repeating: 7, count: 100)))
        }
    }

    private static let two: @Sendable (inout LogBatch) -> Void = {
        $0.append(region: RegionID(1), hardState: nil, entries: entries([1, 2], from: 1))
    }

    private static let termCases = [
        TermCase(testDescription: "one entry", terms: [3], opens: true),
        TermCase(testDescription: "several, the log's first", terms: [3, 3], opens: false),
        TermCase(testDescription: "several terms, the log's first", terms: [3, 4], opens: false),
        TermCase(
            testDescription: "the entry before has the last one's term", before: two, first: 3,
            terms: [2, 2, 2], opens: true),
        TermCase(
            testDescription: "the entry before has an older one", before: two, first: 3,
            terms: [3, 3], opens: false),
        TermCase(
            testDescription: "several terms", before: two, first: 3, terms: [2, 3], opens: false),
        TermCase(
            testDescription: "superseding, in the term of the entry before", before: two, first: 2,
            terms: [1, 1], opens: true),
        TermCase(
            testDescription: "superseding, in the term of the entry superseded", before: two,
            first: 2, terms: [2, 2], opens: false),
        TermCase(
            testDescription: "compacted up to it, in its term",
            before: {
                two(&$0)
                $0.compact(region: RegionID(1), firstIndex: LogIndex(3), term: Term(2))
            }, first: 3, terms: [2, 2], opens: true),
        TermCase(
            testDescription: "compacted up to it, in an older term",
            before: {
                two(&$0)
                $0.compact(region: RegionID(1), firstIndex: LogIndex(3), term: Term(2))
            }, first: 3, terms: [3, 3], opens: false),
        TermCase(
            testDescription: "after a reset, in its term",
            before: {
                two(&$0)
                $0.reset(region: RegionID(1), index: LogIndex(9), term: Term(5))
            }, first: 10, terms: [5, 5], opens: true),
        TermCase(
            testDescription: "after a reset, in the term of what was before that",
            before: {
                two(&$0)
                $0.reset(region: RegionID(1), index: LogIndex(9), term: Term(5))
            }, first: 10, terms: [6, 6], opens: false),
        TermCase(
            testDescription: "compressed: all of one term", terms: [3, 3, 3], isCompressed: true,
            opens: true),
    ]

    @Test("it opens only where all terms are known without the body", arguments: termCases)
    private func terms(_ test: TermCase) throws {
        var options = SmallLog.options
        if test.isCompressed { options.compressionThresholdBytes = 100 }
        let small = try SmallLog(options: options)
        var batch = small.log.newBatch()
        test.before(&batch)
        if !batch.isEmpty { _ = try small.log.submit(&batch, lane: 0) }
        small.pump()
        batch.append(
            region: RegionID(1), hardState: nil, entries: Self.entries(test.terms, from: test.first)
        )
        _ = try small.log.submit(&batch, lane: 0)
        small.pump()
        small.claim()
        let sound = try SmallLog.reopened(small.fileSystem).recovered
        let body = try SmallLog.body(small.fileSystem, 1, from: test.first)
        #expect(body.item.isCompressed == test.isCompressed)
        small.fileSystem.flip(body)
        guard test.opens else {
            let error = Self.refusal(small.fileSystem)
            #expect(error?.code == .corrupted)
            #expect(error?.message.contains("may be of several terms") == true)
            #expect(error?.position?.segment == 1)
            return
        }
        let opened = try SmallLog.repaired(small.fileSystem)
        #expect(opened.recovered.map(\.terms) == sound.map(\.terms))
        #expect(opened.recovered.map(\.damaged) == [[body.entries]])
        let whole = Self.entries(test.terms, from: test.first)
        #expect(try opened.mend(1, from: test.first, with: whole) == .mended)
        #expect(openingError(opened.fileSystem) == nil)
    }

    // MARK: Giving back

    @Test("a compressed body comes back as it was stored")
    func compressed() throws {
        var options = SmallLog.options
        options.compressionThresholdBytes = 100
        let rotten = try Self.rotten(options)
        let body = try SmallLog.body(try Self.pairs(options).fileSystem, 1, from: 3)
        #expect(body.item.isCompressed)
        // Whatever is compressed now, the body was.
        let opened = try SmallLog.repaired(rotten.fileSystem)
        #expect(opened.recovered[0].damaged == [Self.damage])
        var other = Self.whole
        other[1] = Entry(
            term: Term(1), index: LogIndex(4), data: Bytes([UInt8](repeating: 3, count: 100)))
        #expect(try opened.mend(1, from: 3, with: other) == .mismatch)
        #expect(try opened.mend(1, from: 3, with: Self.whole) == .mended)
        #expect(try opened.read(1, 1...4) == SmallLog.entries(from: 1, count: 4))
        #expect(openingError(opened.fileSystem) == nil && opened.fileSystem.problem == nil)
    }

    @Test("entries that do not make up the body change nothing")
    func mismatch() throws {
        let opened = try SmallLog.repaired(try Self.rotten().fileSystem)
        let before = opened.fileSystem.everything
        func changed(_ change: (inout Entry) -> Void) -> [Entry] {
            var entries = Self.whole
            change(&entries[1])
            return entries
        }
        let wrong: [(String, [Entry])] = [
            ("none", []),
            ("too few", [Self.whole[0]]),
            ("too many", SmallLog.entries(from: 3, count: 3)),
            ("others", SmallLog.entries(from: 1, count: 2)),
            ("the same twice", [Self.whole[0], Self.whole[0]]),
            ("in another order", Self.whole.reversed()),
            ("other data", changed { $0.data = Bytes([UInt8](repeating: 1, count: 100)) }),
            ("shorter data", changed { $0.data = Bytes([UInt8](repeating: 1, count: 99)) }),
            ("another term", changed { $0.term = Term(2) }),
            ("another kind", changed { $0.kind = .confChange }),
        ]
        for (what, entries) in wrong {
            #expect(try opened.mend(1, from: 3, with: entries) == .mismatch, "\(what)")
        }
        #expect(opened.fileSystem.everything == before)
        #expect(opened.log.statistics.mendedBodies == 0)
        #expect(opened.readingError(1, 3...4)?.damaged == Self.damage)
        // Where no body begins there is nothing to be mended.
        #expect(try opened.mend(1, from: 4, with: [Self.whole[1]]) == .gone)
        #expect(try opened.mend(3, from: 3, with: Self.whole) == .gone)
        #expect(opened.fileSystem.everything == before)
    }

    @Test("what was superseded or compacted away meanwhile is gone")
    func gone() throws {
        for isCompacted in [false, true] {
            let opened = try SmallLog.repaired(try Self.rotten().fileSystem)
            if isCompacted {
                var batch = LogBatch()
                batch.compact(region: RegionID(1), firstIndex: LogIndex(5), term: Term(1))
                _ = try opened.log.submit(&batch, lane: 0)
                opened.pump()
            } else {
                try opened.append(1, from: 2, count: 2, term: 2)
            }
            let before = opened.fileSystem.everything
            #expect(opened.log.current(Self.damage) == nil)
            #expect(try opened.mend(1, from: 3, with: Self.whole) == .gone)
            #expect(opened.fileSystem.everything == before)
        }
    }

    @Test("what is left of a body that was superseded in part is written anew, in another place")
    func supersededInPart() throws {
        let opened = try SmallLog.repaired(try Self.rotten().fileSystem)
        try opened.append(1, from: 4, count: 3, term: 2)
        let left = DamagedEntries(region: RegionID(1), first: LogIndex(3), last: LogIndex(3))
        #expect(opened.log.current(Self.damage) == left)
        let before = opened.fileSystem.everything
        let entry = Self.whole[0]
        let wrong: [(String, [Entry])] = [
            ("none", []), ("what was there", Self.whole),
            ("what is there", [entry] + SmallLog.entries(from: 4, count: 1, term: 2)),
            ("another", SmallLog.entries(from: 4, count: 1)),
            ("as long as all", SmallLog.entries(from: 3, count: 1, bytes: 216)),
        ]
        for (what, entries) in wrong {
            #expect(try opened.mend(1, from: 3, with: entries) == .mismatch, "\(what)")
        }
        #expect(opened.fileSystem.everything == before)
        #expect(opened.readingError(1, 3...6)?.damaged == left)
        #expect(try opened.read(1, 4...6) == SmallLog.entries(from: 4, count: 3, term: 2))
        // And so it is after a restart that reads all frames.
        opened.claim()
        let again = try SmallLog.repaired(opened.fileSystem, options: SmallLog.scanning)
        #expect(again.recovered[0].damaged == [left])

        guard case .writtenAnew(let ticket) = try again.mend(1, from: 3, with: [entry]) else {
            Issue.record("it is not written anew")
            return
        }
        // Until that is durable it is what it was.
        #expect(!again.log.isDurable(ticket) && again.log.current(left) == left)
        #expect(again.readingError(1, 3...3)?.damaged == left)
        again.pump()
        #expect(again.log.isDurable(ticket))
        #expect(
            try again.read(1, 3...6) == [entry] + SmallLog.entries(from: 4, count: 3, term: 2))
        again.claim()
        for options in [SmallLog.repairing, SmallLog.scanning] {
            let later = try SmallLog.repaired(again.fileSystem, options: options)
            #expect(later.recovered[0].damaged == [])
            #expect(later.recovered[0].terms == again.recovered[0].terms)
            #expect(
                try later.read(1, 1...6)
                    == SmallLog.entries(from: 1, count: 2) + [entry]
                    + SmallLog.entries(from: 4, count: 3, term: 2))
        }
    }

    @Test("what a record under way takes is not written anew")
    func supersededMeanwhile() throws {
        let opened = try SmallLog.repaired(try Self.rotten().fileSystem)
        try opened.append(1, from: 4, count: 3, term: 2)
        try opened.submit(1, from: 3, term: 3)
        #expect(try opened.mend(1, from: 3, with: [Self.whole[0]]) == .gone)
        opened.pump()
        #expect(
            try opened.read(1, 1...3)
                == SmallLog.entries(from: 1, count: 2)
                + SmallLog.entries(from: 3, count: 1, term: 3))
    }

    @Test("one that can be read is not, nor while a rewrite is under way that may hold more of it")
    func beingRewritten() throws {
        let sound = try Self.pairs()
        try sound.append(1, from: 4, count: 3, term: 2)
        let before = sound.fileSystem.everything
        #expect(try sound.mend(1, from: 3, with: [Self.whole[0]]) == .mended)
        sound.pump()
        #expect(sound.fileSystem.everything == before)

        let rotten = try SmallLog.repaired(try Self.rotten().fileSystem)
        try rotten.append(1, from: 4, count: 3, term: 2)
        try rotten.submit(2, from: 3)
        rotten.log.monitor.withLock {
            rotten.log.rewriteTicket = rotten.log.scheduler.lastTicket
        }
        #expect(try rotten.mend(1, from: 3, with: [Self.whole[0]]) == .later)
        rotten.pump()
        guard case .writtenAnew = try rotten.mend(1, from: 3, with: [Self.whole[0]]) else {
            Issue.record("it is not written anew")
            return
        }
    }

    @Test("a body that was compacted away in part comes back for what is left of it")
    func compactedInPart() throws {
        let opened = try SmallLog.repaired(try Self.rotten().fileSystem)
        var batch = LogBatch()
        batch.compact(region: RegionID(1), firstIndex: LogIndex(4), term: Term(1))
        _ = try opened.log.submit(&batch, lane: 0)
        opened.pump()
        #expect(opened.log.current(Self.damage) == Self.damage)
        #expect(opened.readingError(1, 4...4)?.damaged == Self.damage)
        #expect(try opened.mend(1, from: 3, with: Self.whole) == .mended)
        #expect(try opened.read(1, 4...4) == [Self.whole[1]])
    }

    @Test("a body that is whole is not written again")
    func sound() throws {
        let small = try Self.pairs()
        let (before, operations) = (small.fileSystem.everything, small.fileSystem.operations)
        #expect(try small.mend(1, from: 3, with: Self.whole) == .mended)
        #expect(small.fileSystem.everything == before)
        #expect(small.fileSystem.operations == operations)
    }
}
