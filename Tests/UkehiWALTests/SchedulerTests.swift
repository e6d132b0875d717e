// When a batch counts as durable, and what is written in which order.

import Synchronization
import Testing
import UkehiBase
import UkehiEnvironment
import UkehiSimulation

@testable import UkehiWAL

@Suite("Scheduler")
struct SchedulerTests {
    /// Takes the next frame, which must be one.
    private func frame(_ small: SmallLog) throws -> Group {
        guard case .frame(let group)? = small.log.takeWork() else {
            throw ModelMismatch("no frame to write")
        }
        return group
    }

    private func write(_ group: Group) throws {
        let bytes = group.fill()
        try group.segment?.file.writeDurably(bytes, at: group.header.offset)
    }

    @Test("a frame that ends before an earlier one is acknowledged after it")
    func acknowledgesInLogOrder() throws {
        let small = try SmallLog()
        let a = try small.submit(1, from: 1, lane: 1)
        let first = try frame(small)
        let b = try small.submit(2, from: 1, lane: 2)
        let second = try frame(small)
        try write(second)
        small.log.finish(second)
        #expect(small.deliveries.isEmpty)
        try write(first)
        small.log.finish(first)
        #expect(
            small.deliveries == [LaneTicket(lane: 1, ticket: a), LaneTicket(lane: 2, ticket: b)])
    }

    @Test("batches that wait while all slots are busy share one frame, and each lane is told once")
    func batchesShareAFrame() throws {
        var options = SmallLog.options
        options.maxGroupsInFlight = 1
        let small = try SmallLog(options: options)
        _ = try small.submit(1, from: 1)
        let first = try frame(small)
        var last: [Int: Ticket] = [:]
        for region in UInt64(2)...9 {
            let lane = Int(region % 2)
            last[lane] = try small.submit(region, from: 1, lane: lane)
        }
        #expect(small.log.takeWork() == nil)
        try write(first)
        small.log.finish(first)
        let told = small.deliveries.count
        let second = try frame(small)
        #expect(second.storages.count == 8)
        try write(second)
        small.log.finish(second)
        let now = small.deliveries.dropFirst(told)
        #expect(Dictionary(uniqueKeysWithValues: now.map { ($0.lane, $0.ticket) }) == last)
        #expect(now.count == 2)
    }

    @Test("a new segment waits until every frame of the old one is durable")
    func rotationIsABarrier() throws {
        let small = try SmallLog()
        var inFlight: [Group] = []
        var index: UInt64 = 1
        var activation: LogWork?
        while activation == nil {
            try small.submit(1, from: index, bytes: 5000)
            index += 1
            switch small.log.takeWork() {
            case .frame(let group)?: inFlight.append(group)
            case .activate?: throw ModelMismatch("a segment was activated beside frames in flight")
            case nil:
                guard let oldest = inFlight.first else {
                    throw ModelMismatch("nothing to do and nothing in flight")
                }
                try write(oldest)
                small.log.finish(oldest)
                inFlight.removeFirst()
                if inFlight.isEmpty { activation = small.log.takeWork() }
            }
        }
        guard case .activate(let header)? = activation else {
            throw ModelMismatch("no activation")
        }
        #expect(header.predecessor == 1)
        #expect(small.log.takeWork() == nil)
    }

    @Test(
        "a batch that is a frame by itself is written from its own memory, as the same bytes",
        arguments: [1, 2, 60])
    func framesInPlace(items: Int) throws {
        var options = SmallLog.options
        options.segmentBytes = 1 << 20
        options.maxGroupBytes = 256 << 10
        let small = try SmallLog(options: options)
        var batch = small.log.newBatch()
        // Each leaves room for as many items as the one before had.
        let rounds = [
            (items, items == 1), (items, true), (items + 1, false), (items, false), (items, true),
        ]
        var last: [Int: UInt64] = [:]
        for (count, isInPlace) in rounds {
            for region in 1...count {
                last[region, default: 0] += 1
                batch.append(
                    region: RegionID(UInt64(region)), hardState: nil,
                    entries: SmallLog.entries(
                        from: last[region, default: 0], count: 1, bytes: 40_000 / count + 1))
            }
            small.pump()
            _ = try small.log.submit(&batch, lane: 0)
            let group = try frame(small)
            #expect(group.isInPlace == isInPlace)
            let twin = Group()
            twin.lsn = group.lsn
            for storage in group.storages { twin.add(storage, lane: 0, ticket: 0) }
            let segment = try #require(group.segment)
            twin.close(
                into: FrameBuffer(), segment: segment, offset: group.header.offset,
                durableLSN: group.header.durableLSN,
                previousChecksum: group.header.previousChecksum)
            #expect(twin.header == group.header)
            #expect(Array(twin.fill()) == Array(group.fill()))
            try write(group)
            small.log.finish(group)
        }
        small.claim()
        let again = try SmallLog.reopened(small.fileSystem)
        for (region, index) in last {
            #expect(try again.read(UInt64(region), 1...index).count == Int(index))
        }
        #expect(small.fileSystem.problem == nil)
    }

    @Test("an idle log claims what it acknowledged, once")
    func idleClaim() throws {
        let small = try SmallLog()
        try small.append(1, from: 1)
        let frames = small.log.statistics.frames
        small.claim()
        #expect(small.log.statistics.frames == frames + 1)
        small.claim()
        #expect(small.log.statistics.frames == frames + 1)
    }

    @Test("past its bound the queue refuses and leaves the batch as it was")
    func overload() throws {
        var options = SmallLog.options
        options.maxQueueBytes = 4000
        let small = try SmallLog(options: options)
        try small.submit(1, from: 1, bytes: 3000)
        var batch = LogBatch()
        batch.append(
            region: RegionID(1), hardState: nil,
            entries: SmallLog.entries(from: 2, count: 1, bytes: 3000))
        let bytes = batch.encodedBytes
        #expect {
            _ = try small.log.submit(&batch, lane: 0)
        } throws: {
            ($0 as? WALError)?.code == .overloaded
        }
        let left = batch.encodedBytes
        #expect(left == bytes)
        small.pump()
        _ = try small.log.submit(&batch, lane: 0)
        let isTaken = batch.isEmpty
        #expect(isTaken)
        small.pump()
        #expect(small.told.failure.withLock { $0 } == nil)
    }

    @Test("an entry larger than a segment gets one of its own")
    func largeEntry() throws {
        let small = try SmallLog()
        try small.append(1, from: 1)
        try small.append(1, from: 2, bytes: 100_000)
        try small.append(1, from: 3)
        let again = try SmallLog.reopened(small.fileSystem)
        let entries = try again.log.entries(
            region: RegionID(1), from: LogIndex(1), to: LogIndex(4), maxBytes: .max)
        #expect(entries.map(\.data.count) == [100, 100_000, 100])
    }

    @Test("a batch that can never fit is refused")
    func tooLarge() throws {
        let small = try SmallLog()
        var batch = LogBatch()
        let entries = SmallLog.entries(from: 1, count: 1, bytes: 64 << 20)
        for region in UInt64(1)...9 {
            batch.append(region: RegionID(region), hardState: nil, entries: entries)
        }
        #expect {
            _ = try small.log.submit(&batch, lane: 0)
        } throws: {
            ($0 as? WALError)?.code == .recordTooLarge
        }
    }

    @Test("after a failed write nothing is acknowledged, taken or written")
    func failureIsFinal() throws {
        let small = try SmallLog()
        try small.append(1, from: 1)
        let told = small.deliveries.count
        try small.submit(1, from: 2)
        let first = try frame(small)
        try small.submit(1, from: 3)
        let second = try frame(small)
        small.log.fail(WALError(.ioFailed, "The disk is gone."))
        try write(first)
        small.log.finish(first)
        try write(second)
        small.log.finish(second)
        small.pump()
        #expect(small.deliveries.count == told)
        #expect(small.told.failure.withLock { $0 }?.code == .ioFailed)
        #expect {
            try small.submit(1, from: 4)
        } throws: {
            ($0 as? WALError)?.code == .failed
        }
    }
}
