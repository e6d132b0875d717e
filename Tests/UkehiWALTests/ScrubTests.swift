// The background check of sealed segments: it finds what opening by footers leaves unread, names it
// once, raises no false alarm, and takes its time.

import Synchronization
import Testing
import UkehiBase
import UkehiEnvironment
import UkehiPOSIX
import UkehiSimulation

@testable import UkehiWAL

@Suite("Scrubbing")
struct ScrubTests {
    /// Several sealed segments of region 1 (two entries of 1,500 bytes in a frame) and region 2.
    private static func filled(rate: Int = 64 << 20) throws -> SmallLog {
        var options = SmallLog.options
        options.scrubBytesPerSecond = rate
        let small = try SmallLog(options: options)
        for round in UInt64(0)..<20 {
            try small.submit(1, from: 2 * round + 1, count: 2, bytes: 1500)
            try small.submit(2, from: round + 1, bytes: 60)
            small.pump()
        }
        return small
    }

    /// Steps until a round has ended.
    private static func round(_ small: SmallLog) throws {
        let rounds = small.log.statistics.scrubRounds
        for _ in 0..<100_000 {
            small.log.scrubStep()
            if small.log.statistics.scrubRounds > rounds { return }
            small.clock.advance(byNanoseconds: 100_000_000)
        }
        throw ModelMismatch("a round does not end")
    }

    /// Where the body of the block with an entry is.
    private static func place(
        _ small: SmallLog, _ region: UInt64, _ index: UInt64
    ) throws -> IndexBlock {
        let slot = try #require(small.log.scheduler.regions.find(RegionID(region)))
        let log = small.log.scheduler.regions[slot]
        let position = try #require(log.index.position(of: index))
        return try #require(log.index.block(at: position))
    }

    private static func flip(_ small: SmallLog, segment: UInt32, at offset: Int) {
        let path = SmallLog.path(LogNames.segment(UInt64(segment)))
        let old = small.fileSystem.contents(path)?[offset] ?? 0
        small.fileSystem.damage(path, at: offset, with: [old ^ 0x10])
    }

    @Test("a sound log passes, round after round")
    func sound() throws {
        let small = try Self.filled()
        let sealed = small.log.segments.compactMap(\.end).reduce(0) { $0 + $1 - 8192 }
        for round in UInt64(1)...3 {
            try Self.round(small)
            #expect(small.log.statistics.scrubbedBytes == round * sealed)
        }
        #expect(small.log.statistics.damagedRanges == 0)
        #expect(small.told.damages.withLock { $0.isEmpty })
    }

    @Test("a flipped byte of a sealed body is named, once, and the log goes on")
    func body() throws {
        let small = try Self.filled()
        let block = try Self.place(small, 1, 4)
        Self.flip(small, segment: block.segment, at: Int(block.bodyOffset) + 40)
        for _ in 0..<3 { try Self.round(small) }
        let damages = small.told.damages.withLock { $0 }
        #expect(damages.count == 1)
        let damage = try #require(damages.first)
        #expect(damage.error.code == .corrupted)
        #expect(damage.error.position?.segment == UInt64(block.segment))
        let offset = try #require(damage.error.position?.offset)
        #expect(offset < UInt64(block.bodyOffset) && offset % 4096 == 0)
        #expect(
            damage.entries == [
                DamagedEntries(region: RegionID(1), first: LogIndex(3), last: LogIndex(4))
            ])
        #expect(damage.error.message.contains("3 to 4 of r1"))
        #expect(small.log.statistics.damagedRanges == 1)
        // The entries answer an error, others do not, and the log takes more.
        #expect(throws: WALError.self) {
            try small.log.entries(
                region: RegionID(1), from: LogIndex(3), to: LogIndex(4), maxBytes: 1)
        }
        _ = try small.log.entries(
            region: RegionID(1), from: LogIndex(5), to: LogIndex(6), maxBytes: 1)
        try small.append(1, from: 41)
        #expect(small.told.failure.withLock { $0 } == nil)
    }

    @Test("a frame whose header or directory is unreadable is named by the entries in it")
    func header() throws {
        for offset in [0, 20, 100] {
            let small = try Self.filled()
            let block = try Self.place(small, 1, 4)
            Self.flip(
                small, segment: block.segment, at: Int(block.bodyOffset) / 4096 * 4096 + offset)
            try Self.round(small)
            let damages = small.told.damages.withLock { $0 }
            #expect(damages.count == 1)
            #expect(
                damages.first?.entries == [
                    DamagedEntries(region: RegionID(1), first: LogIndex(3), last: LogIndex(4)),
                    DamagedEntries(region: RegionID(2), first: LogIndex(2), last: LogIndex(2)),
                ])
            #expect(small.log.statistics.damagedRanges == 2)
        }
    }

    @Test("every flipped byte of a sealed segment's frames is found, unless nothing reads it")
    func everywhere() throws {
        let small = try Self.filled(rate: 1 << 30)
        let name = LogNames.segment(1)
        let bytes = small.fileSystem.contents(SmallLog.path(name)) ?? []
        let end = Int(try #require(small.log.segments.first?.end))
        var (found, missed) = (0, 0)
        for place in stride(from: 8192, to: end, by: 61) {
            small.fileSystem.damage(SmallLog.path(name), at: place, with: [bytes[place] ^ 1])
            let opened = try SmallLog.reopened(small.fileSystem)
            small.fileSystem.damage(SmallLog.path(name), at: place, with: [bytes[place]])
            try Self.round(opened)
            if opened.told.damages.withLock({ $0.isEmpty }) {
                missed += 1
                // Padding.
                #expect(bytes[place] == 0, "\(place)")
            } else {
                found += 1
            }
        }
        #expect(found > missed)
    }

    @Test("the rate is kept, over any stretch of time")
    func rate() throws {
        let rate = 100_000
        let small = try Self.filled(rate: rate)
        var (seconds, last) = (0.0, UInt64(0))
        // Frames are paid for behind: the first step takes a burst.
        small.log.scrubStep()
        let first = small.log.statistics.scrubbedBytes
        let slack = UInt64(8 << 10)
        #expect(first <= UInt64(WALLimits.scrubChunkBytes) + slack)
        // Many rounds' worth, in steps of 10 ms.
        for step in 0..<400_000 {
            small.clock.advance(byNanoseconds: 10_000_000)
            seconds += 0.01
            small.log.scrubStep()
            let now = small.log.statistics.scrubbedBytes
            let most = UInt64(seconds * Double(rate)) + UInt64(WALLimits.scrubChunkBytes) + slack
            if now > most || now - last > UInt64(WALLimits.scrubChunkBytes) + slack {
                Issue.record("\(now) bytes after \(seconds) s, step \(step)")
                break
            }
            last = now
        }
        #expect(small.log.statistics.scrubRounds > 5)
    }

    @Test("a rate that a round cannot keep up with is kept, too")
    func slow() throws {
        let rate = 10_000
        let small = try Self.filled(rate: rate)
        var worst = 0.0
        let begin = WALLimits.scrubChunkBytes
        var seconds = 0.0
        // The burst at the beginning is spent first: less than the rate for a while.
        while small.log.statistics.scrubRounds < 20 {
            seconds += 1
            small.clock.advance(byNanoseconds: 1_000_000_000)
            small.log.scrubStep()
            let over = Double(small.log.statistics.scrubbedBytes) - Double(rate) * seconds
            worst = max(worst, over)
            guard seconds < 1e6 else { break }
        }
        #expect(worst <= Double(begin) + 8192)
        #expect(small.log.statistics.scrubRounds == 20)
    }

    @Test("segments that are freed and used again while they are checked raise no alarm")
    func reuse() throws {
        var options = SmallLog.options
        options.scrubBytesPerSecond = 400_000
        let small = try SmallLog(options: options)
        for index in UInt64(1)...400 {
            try small.append(1, from: index, bytes: 3000)
            small.clock.advance(byNanoseconds: index % 50 == 0 ? 600_000_000_000 : 10_000_000)
            small.log.scrubStep()
            guard index % 3 == 0 else { continue }
            var batch = LogBatch()
            batch.compact(region: RegionID(1), firstIndex: LogIndex(index), term: Term(1))
            _ = try small.log.submit(&batch, lane: 0)
            small.pump()
            while case .removed = try small.log.purgeStep() { small.log.scrubStep() }
            small.pump()
        }
        #expect(small.log.statistics.segmentsReused > 10)
        #expect(small.log.statistics.scrubbedBytes > 100_000)
        #expect(small.told.damages.withLock { $0.isEmpty })
    }

    @Test("a disk that gives nothing is told as that")
    func unreadable() throws {
        let small = try Self.filled()
        small.fileSystem.setHook { (operation) throws(FileError) in
            guard operation.kind == .read else { return }
            throw FileError(kind: .ioFailed, operation: "read", path: operation.path)
        }
        try Self.round(small)
        let damages = small.told.damages.withLock { $0 }
        #expect(!damages.isEmpty)
        #expect(damages.allSatisfy { $0.error.code == .ioFailed && !$0.entries.isEmpty })
        #expect(small.told.failure.withLock { $0 } == nil)
    }

    @Test("off is off")
    func off() throws {
        let small = try Self.filled(rate: 0)
        #expect(small.log.scrubStep() == nil)
        #expect(small.log.statistics.scrubbedBytes == 0)
    }

    @Test("the log's own thread checks by itself")
    func threads() throws {
        let small = try Self.filled()
        let block = try Self.place(small, 1, 4)
        Self.flip(small, segment: block.segment, at: Int(block.bodyOffset) + 40)
        let (log, _) = try WriteAheadLog.open(
            fileSystem: small.fileSystem.copy(), directory: SmallLog.directory,
            options: SmallLog.options, random: SeededRandomSource(seed: 4), clock: SystemClock())
        let told = Told()
        let monitor = Monitor()
        let heard = Condition(monitor)
        log.start(
            durable: { _, _ in }, failed: { _ in },
            damaged: { damage in
                told.damages.withLock { $0.append(damage) }
                monitor.withLock { heard.signal() }
            })
        monitor.withLock {
            for _ in 0..<100 where told.damages.withLock({ $0.isEmpty }) {
                heard.wait(nanoseconds: 100_000_000)
            }
        }
        log.stop()
        #expect(told.damages.withLock { $0.first?.entries.first?.first } == LogIndex(3))
    }
}
