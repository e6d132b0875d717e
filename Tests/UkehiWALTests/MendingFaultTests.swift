// Mending while everything else goes wrong: the power, the disk, a purge of the segment; and every
// byte of every body, one after the other.

import Synchronization
import Testing
import UkehiBase
import UkehiEnvironment
import UkehiSimulation

@testable import UkehiWAL

/// Purges before one operation of a disk.
///
/// Safety: the disk is used, and calls this, on the test's thread.
private final class PurgeBetween: @unchecked Sendable {
    private let operation: Int
    private let purge: () throws -> Set<UInt64>
    private(set) var seen = 0
    /// Segments whose files were kept for another life.
    private(set) var kept: Result<Set<UInt64>, any Error>?

    init(_ operation: Int, _ purge: @escaping () throws -> Set<UInt64>) {
        self.operation = operation
        self.purge = purge
    }

    func visit() {
        seen += 1
        // The purge's own operations come after.
        if seen == operation + 1 { kept = Result { try purge() } }
    }
}

@Suite("Mending under faults")
struct MendingFaultTests {
    // MARK: Power cuts

    /// A body of three blocks with one of region 2 at either side, in the same blocks.
    private static func wide() throws -> SmallLog {
        var options = SmallLog.options
        // All of it in the newest segment.
        options.segmentBytes = 64 << 10
        let small = try SmallLog(options: options)
        var batch = LogBatch()
        for (region, first, bytes) in [(2, 2, 300), (1, 2, 4500), (2, 4, 300)] {
            batch.append(
                region: RegionID(UInt64(region)),
                hardState: HardState(term: Term(1), vote: PeerID(1)),
                entries: SmallLog.entries(from: UInt64(first), count: 2, bytes: bytes))
        }
        try small.append(1, from: 1, bytes: 4500)
        try small.append(2, from: 1, bytes: 300)
        _ = try small.log.submit(&batch, lane: 0)
        small.pump()
        small.claim()
        return small
    }

    @Test("a power cut at any point of a mend leaves damage that can be mended")
    func powerCuts() throws {
        let small = try Self.wide()
        let sound = try SmallLog.reopened(small.fileSystem).recovered
        let body = try SmallLog.body(small.fileSystem, 1, from: 2)
        let whole = Self.whole
        let bad = [body.offset + 30, body.offset + 8000]
        for place in bad { small.fileSystem.flip(body.path, at: place) }
        // Behind the frames is a footer, which no opening waited for.
        let end = FrameFormat.roundUp(body.range.upperBound)
        func frames(_ disk: SimulatedFileSystem) -> [UInt8] {
            Array((disk.contents(body.path) ?? []).prefix(end))
        }

        var (mendable, mended, further) = (0, 0, 0)
        for tear in [512, 4096] {
            let disk = small.fileSystem.copy()
            disk.setTearBytes(tear)
            let opened = try SmallLog(disk, options: SmallLog.repairing, seed: 99)
            #expect(opened.recovered[0].damaged == [body.entries])
            opened.pump()
            let rotten = frames(disk)
            let random = Mutex(SeededRandom(seed: UInt64(tear)))
            let left = Mutex<[SimulatedFileSystem]>([])
            let visited = Mutex<[SimulatedOperation.Kind]>([])
            disk.setHook { [unowned disk] (operation) throws(FileError) in
                visited.withLock { $0.append(operation.kind) }
                for _ in 0..<(operation.kind == .writeDurably ? 120 : 5) {
                    let state = random.withLock { disk.crashed(using: &$0) }
                    left.withLock { $0.append(state) }
                }
            }
            #expect(try opened.mend(1, from: 2, with: whole) == .mended)
            disk.setHook(nil)
            #expect(visited.withLock { $0 } == [.read, .write, .writeDurably, .read])
            let bytes = frames(disk)
            #expect(bytes != rotten)

            for state in left.withLock({ $0 }) {
                let found = frames(state)
                // Sectors as they were or as they should be; else the disk lost what was in one.
                var fixed = found
                for place in bad where found[place] == rotten[place] { fixed[place] = bytes[place] }
                let isUsual = fixed == bytes
                guard isUsual else {
                    further += 1
                    try expectNoLies(state, sound)
                    continue
                }
                let again = try SmallLog(state, options: SmallLog.scanning, seed: 5)
                var expected = sound
                if found != bytes {
                    mendable += 1
                    expected[0].damaged = [body.entries]
                } else {
                    mended += 1
                }
                #expect(again.recovered == expected)
                #expect(
                    try again.read(2, 1...5) == SmallLog.entries(from: 1, count: 5, bytes: 300))
                #expect(try again.mend(1, from: 2, with: whole) == .mended)
                #expect(try again.read(1, 2...3) == whole)
                #expect(state.problem == nil)
            }
        }
        #expect(mendable > 20 && mended > 20 && further > 20, "\(mendable), \(mended), \(further)")
    }

    /// Whatever is left opens with damage named, or refuses; and reading gives nothing wrong.
    private func expectNoLies(
        _ state: SimulatedFileSystem, _ sound: [RecoveredRegion]
    ) throws {
        do throws(WALError) {
            let again = try SmallLog(state, options: SmallLog.scanning, seed: 5)
            var found = again.recovered
            for position in found.indices { found[position].damaged = [] }
            #expect(found == sound)
            for (region, last, bytes) in [(1, 3, 4500), (2, 5, 300)] {
                let expected = SmallLog.entries(from: 1, count: last, bytes: bytes)
                for entry in expected {
                    let index = entry.index.rawValue
                    guard let read = try? again.read(UInt64(region), index...index) else {
                        let damage = again.readingError(UInt64(region), index...index)?.damaged
                        #expect(
                            damage.map { again.recovered.flatMap(\.damaged).contains($0) } == true)
                        continue
                    }
                    #expect(read == [entry])
                }
            }
        } catch {
            #expect(error.code == .corrupted)
        }
    }

    // MARK: Disks that fail

    private static func rotten() throws -> (opened: SmallLog, body: StoredBody) {
        let small = try Self.wide()
        let body = try SmallLog.body(small.fileSystem, 1, from: 2)
        small.fileSystem.flip(body)
        return (try SmallLog.repaired(small.fileSystem), body)
    }

    private static let whole = SmallLog.entries(from: 2, count: 2, bytes: 4500)

    @Test(
        "a disk that fails in a mend stops the log, and the next opening mends",
        arguments: [SimulatedOperation.Kind.read, .write, .writeDurably], [false, true])
    func failures(kind: SimulatedOperation.Kind, isHalfWritten: Bool) throws {
        let (opened, body) = try Self.rotten()
        let disk = opened.fileSystem
        opened.pump()
        disk.setFailsHalfway(isHalfWritten)
        disk.setHook { (operation) throws(FileError) in
            guard operation.kind == kind else { return }
            throw FileError(kind: .ioFailed, operation: "\(kind)", path: operation.path, errno: 5)
        }
        do throws(WALError) {
            let outcome = try opened.mend(1, from: 2, with: Self.whole)
            Issue.record("\(outcome)")
        } catch {
            #expect(error.code == .ioFailed)
        }
        disk.setHook(nil)
        #expect(opened.told.failure.withLock { $0?.code } == .ioFailed)
        #expect(opened.log.statistics.mendedBodies == 0)
        #expect(throws: WALError.self) { try opened.append(1, from: 4) }
        // What was half written is as good as it was, or better.
        disk.processEnded()
        let again = try SmallLog.repaired(disk)
        #expect(again.recovered[0].damaged.allSatisfy { $0 == body.entries })
        #expect(try again.mend(1, from: 2, with: Self.whole) == .mended)
        #expect(again.fileSystem.problem == nil)
    }

    @Test("a disk that gives other bytes than were written is told as that, and is asked no more")
    func readBack() throws {
        let (opened, body) = try Self.rotten()
        let disk = opened.fileSystem
        let wrote = Mutex(false)
        disk.setHook { [unowned disk] (operation) throws(FileError) in
            if operation.kind == .writeDurably { wrote.withLock { $0 = true } }
            guard operation.kind == .read, wrote.withLock({ $0 }) else { return }
            disk.flip(body, byte: 100)
            wrote.withLock { $0 = false }
        }
        do throws(WALError) {
            let outcome = try opened.mend(1, from: 2, with: Self.whole)
            Issue.record("\(outcome)")
        } catch {
            #expect(error.code == .corrupted && error.damaged == body.entries)
        }
        disk.setHook(nil)
        #expect(opened.log.statistics.mendedBodies == 0)
        // Not the log's failure: it goes on.
        #expect(opened.told.failure.withLock { $0 } == nil)
        try opened.append(1, from: 4)
    }

    // MARK: A purge meanwhile

    /// A log whose first segments region 1 alone holds, with a rotten body in the first one.
    private static func purgeable() throws -> (small: SmallLog, body: StoredBody, last: UInt64) {
        let small = try SmallLog(options: SmallLog.repairing)
        var last: UInt64 = 0
        while small.segmentNames.count < 3 {
            last += 1
            try small.append(1, from: last, bytes: 3000)
        }
        let body = try SmallLog.body(small.fileSystem, 1, from: 2)
        #expect(body.segment == 1)
        small.fileSystem.flip(body)
        return (small, body, last)
    }

    /// Drops everything but the last entry, frees what nothing needs, and fills several segments more;
    /// whose files were kept for another life.
    private static func purge(_ small: SmallLog, last: UInt64) throws -> Set<UInt64> {
        var batch = LogBatch()
        batch.compact(region: RegionID(1), firstIndex: LogIndex(last), term: Term(1))
        _ = try small.log.submit(&batch, lane: 0)
        small.pump()
        var kept: Set<UInt64> = []
        purging: while true {
            switch try small.log.purgeStep() {
            case .removed(let segment):
                // Under its old name until it is used.
                let name = LogNames.segment(segment)
                if small.segmentNames.contains(name) { kept.insert(segment) }
            case .carried: small.pump()
            case .pinned, .done: break purging
            }
        }
        for index in (last + 1)...(last + 30) { try small.append(1, from: index, bytes: 3000) }
        return kept
    }

    @Test("a segment that is freed while a mend holds it gets no next life", arguments: 0..<5)
    func purged(operation: Int) throws {
        let (control, _, end) = try Self.purgeable()
        #expect(try Self.purge(control, last: end).contains(1), "a purge alone keeps the file")
        #expect(control.log.statistics.segmentsReused > 0)

        let (small, body, last) = try Self.purgeable()
        #expect(body.range.count == 3016)
        let purging = PurgeBetween(operation) { try Self.purge(small, last: last) }
        small.fileSystem.setHook { (_) throws(FileError) in purging.visit() }
        let outcome = try small.mend(
            1, from: 2, with: SmallLog.entries(from: 2, count: 1, bytes: 3000))
        small.fileSystem.setHook(nil)
        #expect(outcome == .mended)
        if operation == 4 {
            // A mend has four operations; after it the file is free.
            #expect(purging.seen == 4)
            #expect(try Self.purge(small, last: last).contains(1))
        } else {
            let kept = try #require(try purging.kept?.get())
            #expect(!kept.contains(1) && kept.contains(2), "kept while the mend held it: \(kept)")
        }
        #expect(
            try small.read(1, last...last + 30)
                == SmallLog.entries(from: last, count: 31, bytes: 3000))
        small.claim()
        #expect(small.fileSystem.problem == nil)
        #expect(small.told.failure.withLock { $0 } == nil)
    }

    @Test(
        "the background check names what is needed, not what a later body with the same first entry took"
    )
    func superseded() throws {
        var options = SmallLog.repairing
        options.scrubBytesPerSecond = 1 << 30
        let small = try SmallLog(options: options)
        for region in UInt64(1)...2 { try small.append(region, from: 1, count: 2) }
        let bodies = try SmallLog.bodies(small.fileSystem)
        // Of region 1 both entries are superseded, of region 2 the second one.
        try small.append(1, from: 1, count: 5, term: 2)
        try small.append(2, from: 2, count: 5, term: 2)
        var index: UInt64 = 1
        while small.log.segments.count < 3 {
            try small.append(3, from: index, bytes: 3000)
            index += 1
        }
        for body in bodies { small.fileSystem.flip(body) }
        for _ in 0..<1000 where small.log.statistics.scrubRounds == 0 {
            small.log.scrubStep()
            small.clock.advance(byNanoseconds: 600_000_000_000)
        }
        let damages = small.told.damages.withLock { $0 }
        let left = DamagedEntries(region: RegionID(2), first: LogIndex(1), last: LogIndex(1))
        #expect(damages.map(\.entries) == [[], [left]])
        #expect(damages.allSatisfy { $0.error.code == .corrupted })
        // Whoever was told of it before it was superseded has nothing to ask for either.
        #expect(small.log.current(bodies[0].entries) == nil)
        #expect(small.log.current(bodies[1].entries) == left)
        #expect(try small.read(1, 1...5).count == 5)
    }

    @Test("a damaged body holds its segment, and is not written again until it is mended")
    func rewriting() throws {
        let small = try SmallLog(options: SmallLog.repairing)
        try small.append(1, from: 1)
        try small.append(1, from: 2, count: 2)
        let body = try SmallLog.body(small.fileSystem, 1, from: 2)
        var index: UInt64 = 0
        while small.log.segments.count < 6 {
            index += 1
            try small.append(2, from: index, bytes: 3000)
        }
        var batch = LogBatch()
        batch.compact(region: RegionID(2), firstIndex: LogIndex(index), term: Term(1))
        _ = try small.log.submit(&batch, lane: 0)
        small.pump()
        small.fileSystem.flip(body)
        for _ in 0..<3 {
            #expect(try small.log.purgeStep() == .pinned([RegionID(1)]))
            small.pump()
        }
        #expect(small.log.statistics.regionsRewritten == 0)
        #expect(small.readingError(1, 2...3)?.damaged == body.entries)
        #expect(
            try small.mend(1, from: 2, with: SmallLog.entries(from: 2, count: 2)) == .mended)
        guard case .carried(regions: 1, _) = try small.log.purgeStep() else {
            Issue.record("it is not written again")
            return
        }
        small.pump()
        #expect(small.log.statistics.regionsRewritten == 1)
        #expect(try small.log.purgeStep() == .removed(segment: 1))
        #expect(try small.read(1, 1...3) == SmallLog.entries(from: 1, count: 3))
        #expect(small.log.current(body.entries) == nil)
        #expect(small.told.failure.withLock { $0 } == nil)
    }

    // MARK: Every byte

    /// A log of one segment, with whatever regions can have.
    private static func mixed(_ seed: UInt64) throws -> SmallLog {
        var options = SmallLog.options
        options.segmentBytes = 64 << 10
        options.compressionThresholdBytes = 60
        let small = try SmallLog(options: options)
        var random = SeededRandom(seed: seed)
        var model = ModelLog()
        for _ in 0..<6 {
            var batch = small.log.newBatch()
            for _ in 0..<4 { model.change(&random, &batch, regionCount: 3, maxData: 60) }
            if !batch.isEmpty { _ = try small.log.submit(&batch, lane: 0) }
            small.pump()
        }
        small.claim()
        #expect(small.log.segments.count == 1)
        return small
    }

    @Test("every flipped byte of every body is mended, named or refused")
    func everyByte() throws {
        var counts: [String: Int] = [:]
        for seed in UInt64(1)...2 { try Self.everyByte(seed, &counts) }
        for kind in ["refused", "mended", "unpacked", "superseded", "in part"] {
            #expect(counts[kind] ?? 0 > 20, "\(counts)")
        }
    }

    private static func everyByte(_ seed: UInt64, _ counts: inout [String: Int]) throws {
        let small = try mixed(seed)
        let twin = try SmallLog.repaired(small.fileSystem)
        var random = SeededRandom(seed: seed)
        for (body, entries) in try SmallLog.bodiesWithEntries(small.fileSystem) {
            let table = twin.log.scheduler.regions
            let slot = try #require(table.find(body.item.region))
            let live = table[slot].index.live.first {
                UInt64($0.segment) == body.segment && Int($0.bodyOffset) == body.offset
            }
            for byte in body.range {
                let what: Comment = "seed \(seed), \(body.item.kind) at \(body.range), byte \(byte)"
                let rotten = small.fileSystem.copy()
                let old = rotten.contents(body.path)?[byte] ?? 0
                rotten.damage(
                    body.path, at: byte, with: [old ^ 1 << UInt8.random(in: 0..<8, using: &random)])
                guard let opened = try openedOrRefused(rotten, body, what) else {
                    counts["refused", default: 0] += 1
                    continue
                }
                #expect(body.item.kind == .append, what)
                if let live {
                    let kind = try mend(opened, twin, body, live, entries, what)
                    counts[kind, default: 0] += 1
                } else {
                    #expect(opened.recovered == twin.recovered, what)
                    let model = try ModelLog.of(opened.log, opened.recovered)
                    #expect(try model == ModelLog.of(twin.log, twin.recovered), what)
                    counts["superseded", default: 0] += 1
                }
            }
        }
    }

    /// Looks at what was opened with one damaged body, gives it back, and compares with the twin that
    /// never rotted.
    private static func mend(
        _ opened: SmallLog, _ twin: SmallLog, _ body: StoredBody, _ live: IndexBlock,
        _ entries: [Entry], _ what: Comment
    ) throws -> String {
        let damage = DamagedEntries(
            region: body.item.region, first: LogIndex(live.first), last: LogIndex(live.end - 1))
        var expected = twin.recovered
        let position = try #require(expected.firstIndex { $0.region == damage.region })
        expected[position].damaged = [damage]
        #expect(opened.recovered == expected, what)
        let model = try ModelLog.of(twin.log, twin.recovered)
        try expectOnlyDamaged(opened, damage, model, what)
        let before = opened.fileSystem.everything
        let outcome = try opened.log.mend(
            region: damage.region, first: damage.first, entries: entries)
        guard live.count == body.item.count else {
            #expect(outcome == .mismatch, what)
            #expect(opened.fileSystem.everything == before, what)
            return "in part"
        }
        #expect(outcome == .mended, what)
        #expect(opened.fileSystem.everything == twin.fileSystem.everything, what)
        #expect(try ModelLog.of(opened.log, opened.recovered) == model, what)
        return live.isCompressed ? "unpacked" : "mended"
    }

    private static func openedOrRefused(
        _ rotten: SimulatedFileSystem, _ body: StoredBody, _ what: Comment
    ) throws -> SmallLog? {
        let before = rotten.everything
        do throws(WALError) {
            return try SmallLog(rotten, options: SmallLog.repairing, seed: 99)
        } catch {
            #expect(error.code == .corrupted, what)
            #expect(error.position?.segment == body.segment, what)
            #expect(rotten.everything == before, what)
            // Entries are refused for their terms only.
            #expect(
                body.item.kind != .append
                    || error.message.contains("may be of several terms")
                        && body.item.count > 1 && !body.item.isCompressed,
                what)
            return nil
        }
    }

    /// Each entry reads as it was, or is said to be damaged.
    private static func expectOnlyDamaged(
        _ opened: SmallLog, _ damage: DamagedEntries, _ model: ModelLog, _ what: Comment
    ) throws {
        for (id, region) in model.regions {
            for (index, entry) in region.entries {
                let isDamaged =
                    id == damage.region
                    && (damage.first...damage.last).contains(LogIndex(index))
                if isDamaged {
                    #expect(
                        opened.readingError(id.rawValue, index...index)?.damaged == damage, what)
                } else {
                    let read = try opened.read(id.rawValue, index...index)
                    #expect(read.map(\.data.array) == [entry.data], what)
                    #expect(read.map(\.term.rawValue) == [entry.term], what)
                }
            }
        }
    }
}
