// What is written into the last segment that there is room for: nothing that has no room in it, since it
// would keep back the votes and deletes behind it.

import Synchronization
import Testing
import UkehiBase
import UkehiEnvironment
import UkehiSimulation

@testable import UkehiWAL

@Suite("The last segment")
struct LastSegmentTests {
    static var options: WALOptions {
        var options = SmallLog.options
        options.segmentBytes = 512 << 10
        return options
    }

    /// A log that is in its last segment, with `regions` states in the first and an entry of region 2
    /// there if asked for; region 1 has filled the rest but for `left` bytes, and let go of all of it.
    static func last(
        regions: Int, pins: Bool = false, sealed: Int = 1, left: Int
    ) throws -> SmallLog {
        let log = try SmallLog(options: options)
        log.pump()
        if pins { try log.append(2, from: 1) }
        for region in 0..<UInt64(regions) {
            var batch = log.log.newBatch()
            batch.birth(
                region: RegionID(1000 + region),
                payload: Bytes(String(repeating: "b", count: 300)),
                hardState: HardState(term: Term(1)))
            _ = try log.log.submit(&batch, lane: 0)
        }
        var index: UInt64 = 0
        while log.log.segments.count <= sealed || log.log.scheduler.roomLeft > UInt64(left) {
            if log.log.segments.count == sealed, log.fileSystem.volumeBytes == nil {
                log.fileSystem.setVolume(byteCount: log.fileSystem.usedBytes)
            }
            index += 1
            try log.append(1, from: index, bytes: 3000)
        }
        var batch = log.log.newBatch()
        batch.compact(region: RegionID(1), firstIndex: LogIndex(index + 1), term: Term(1))
        _ = try log.log.submit(&batch, lane: 0)
        log.pump()
        #expect(log.log.roomLeft.room != .ample)
        return log
    }

    /// A vote goes through.
    static func votes(_ log: SmallLog) throws {
        var batch = log.log.newBatch()
        batch.append(
            region: RegionID(5), hardState: HardState(term: Term(9), vote: PeerID(3)), entries: [])
        let ticket = try log.log.submit(&batch, lane: 0)
        log.pump()
        #expect(log.log.isDurable(ticket))
    }

    @Test("states are said again only where all of them leave as much room as they take")
    func carries() throws {
        let scarce = try Self.last(regions: 200, left: 100 << 10)
        guard case .done = try scarce.log.purgeStep() else {
            Issue.record("carried what has no room")
            return
        }
        try Self.votes(scarce)

        let log = try Self.last(regions: 200, left: 400 << 10)
        var removed = 0
        for _ in 0..<200 {
            let step = try log.log.purgeStep()
            log.pump()
            if case .removed = step { removed += 1 }
            if case .done = step { break }
        }
        #expect(removed == 1)
        try Self.votes(log)
        // That was room for another one.
        #expect(log.log.roomLeft.room == .ample)
    }

    @Test("entries are not said again into a segment that may not hold that")
    func rewrites() throws {
        let log = try Self.last(regions: 0, pins: true, sealed: 3, left: 400 << 10)
        #expect(log.log.scheduler.active?.header.mayHoldRewrites == false)
        for _ in 0..<3 {
            guard case .pinned = try log.log.purgeStep() else {
                Issue.record("rewritten into a segment that says that it holds none")
                return
            }
        }
        try Self.votes(log)
    }

    @Test(
        "a batch is refused if its frame has no room, whatever it is made of",
        arguments: [0, 1, 40, 60])
    func exact(before: Int) throws {
        for items in [1, 20, 50, 51, 60, 100, 200, 400] {
            let log = try Self.last(regions: 0, left: 24 << 10)
            var tickets: [Ticket] = []
            var refused = 0
            while refused < 2 {
                // One that waits, and one that shares its frame or does not.
                for count in [before, items] where count > 0 {
                    var batch = log.log.newBatch()
                    for region in 0..<UInt64(count) {
                        batch.append(
                            region: RegionID(2000 + region),
                            hardState: HardState(term: Term(UInt64(tickets.count) + 1)),
                            entries: [])
                    }
                    do {
                        tickets.append(try log.log.submit(&batch, lane: 0))
                    } catch {
                        #expect(error.code == .diskFull)
                        refused += 1
                    }
                }
                log.pump()
                #expect(tickets.allSatisfy { log.log.isDurable($0) })
            }
            #expect(log.told.failure.withLock { $0 } == nil)
        }
    }

    @Test("that no segment follows is known while most of the one in use is left")
    func foreseen() throws {
        var options = Self.options
        options.segmentBytes = 4 << 20
        let log = try SmallLog(options: options)
        log.fileSystem.setVolume(byteCount: log.fileSystem.usedBytes)
        #expect(log.log.roomLeft.room == .ample)
        log.log.prepareStep()
        #expect(log.log.scheduler.active?.isPrepared == false)
        #expect(log.log.roomLeft.room == .lastSegment)
        #expect(log.log.roomLeft.bytes > 3 << 20)
        // What has no room in it is refused at once; what has waits until it is zeroed.
        try log.submit(2, from: 1, bytes: 2 << 20)
        #expect(throws: WALError.self) { try log.submit(3, from: 1, bytes: 2 << 20) }
        try Self.votes(log)
        #expect(log.log.scheduler.durableTicket == log.log.scheduler.lastTicket)
    }

    @Test("where more of the segment in use cannot even be zeroed, nothing waits for that")
    func zeroingFails() throws {
        var options = Self.options
        options.segmentBytes = 4 << 20
        let fileSystem = SimulatedFileSystem()
        fileSystem.setAllocationSupported(false)
        let log = try SmallLog(fileSystem, options: options)
        log.log.prepareStep()
        fileSystem.setVolume(byteCount: fileSystem.usedBytes)
        try log.submit(1, from: 1, bytes: 2 << 20)
        #expect(!log.log.prepareStep())
        #expect(log.log.takeWork() == nil)
        #expect(log.log.monitor.withLock { log.log.isStarved })
        fileSystem.setVolume(byteCount: nil)
        log.pump()
        #expect(log.deliveries.count == 1)
    }

    @Test("a frame that had no room with a footer behind it has some once there will be none")
    func footersRoom() throws {
        let log = try SmallLog(options: Self.options)
        // The segment in use is whole, and there is no other one.
        while log.log.scheduler.active?.isPrepared == false { log.log.prepareStep() }
        #expect(log.log.scheduler.roomLeft > 400 << 10)
        var index: UInt64 = 0
        while log.log.scheduler.missingRoom == 0 {
            index += 1
            try log.submit(1, from: index, bytes: 3000)
            while let work = log.log.takeWork() { log.log.perform(work) }
        }
        log.fileSystem.setVolume(byteCount: log.fileSystem.usedBytes)
        #expect(!log.log.prepareStep())
        while let work = log.log.takeWork() { log.log.perform(work) }
        #expect(log.deliveries.last?.ticket == index)
        try Self.votes(log)
    }

    @Test("nor is that forgotten where it becomes known while another segment is being asked for")
    func footersRoomLate() throws {
        let log = try SmallLog(options: Self.options)
        while log.log.scheduler.active?.isPrepared == false { log.log.prepareStep() }
        var index: UInt64 = 0
        while true {
            index += 1
            try log.submit(1, from: index, bytes: 3000)
            guard let work = log.log.takeWork() else { continue }
            if case .activate = work {
                // As the preparer, on its thread, would find it.
                log.log.monitor.withLock {
                    log.log.shortage = FileError(
                        kind: .noSpace, operation: "fallocate", path: "next.tmp", errno: 28)
                }
                log.log.perform(work)
                break
            }
            log.log.perform(work)
        }
        while let work = log.log.takeWork() { log.log.perform(work) }
        #expect(log.deliveries.last?.ticket == index)
        #expect(!log.log.monitor.withLock { log.log.isStarved })
    }
}
