import Testing
import Ukehi
import UkehiBase
import UkehiNode
import _UkehiTestSupport

@testable import UkehiCommand

@Suite("bench: failover", .prompt)
struct FailoverBenchTests {
    @Test("percentiles are exact times, by nearest rank")
    func nearestRank() {
        let times = ExactTimes(nanoseconds: (1...50).reversed().map { $0 * 1_000_000 })
        #expect(times.percentile(50) == 25)
        #expect(times.percentile(98) == 49)
        #expect(times.percentile(99) == 50)
        #expect(times.percentile(100) == 50)
        #expect(times.json.text.hasPrefix("{\"p50\":25,\"p99\":50,\"max\":50,\"all\":[1,2,"))
        #expect(ExactTimes(nanoseconds: [7_500_000]).percentile(1) == 7.5)
        #expect(ExactTimes(nanoseconds: []).percentile(99) == 0)
    }

    @Test("what cannot be is said, all of it, with the option to change")
    func problems() {
        #expect(FailoverSettings().problems == [])
        let problems = FailoverSettings(kills: 0, nodes: 4, state: .none).problems
        #expect(problems.map { $0.prefix { $0 != " " } } == ["--kills", "--nodes", "--state"])
        #expect(FailoverSettings(nodes: -1).problems.count == 1)
    }

    @Test("a directory that has nodes is not written over")
    func takenDirectory() throws {
        let directory = try TemporaryDirectory()
        #expect(FailoverSettings(directory: directory.path).problems == [])
        try DirectoryTree.create(directory.path + "/node-2")
        defer { DirectoryTree.remove(directory.path + "/node-2") }
        #expect(FailoverSettings(directory: directory.path).problems.count == 1)
    }

    @Test("a writer's keys are of its region and nobody else's")
    func keys() throws {
        let ranges = StaticRanges.ranges(count: 4)
        let regions = ranges.enumerated().map { position, range in
            RegionInfo(
                region: RegionID(UInt64(position + 2)), range: range,
                epoch: RegionEpoch(confVersion: 1, version: 1), leader: nil, nodes: [])
        }
        let writers = try FailoverWriters(regions: regions)
        #expect(writers.writers.count == 4 * FailoverSettings.clients)
        var seen: Set<Bytes> = []
        for writer in writers.writers {
            for number in [0, 9, 10, 123_456] {
                #expect(writer.region.range.contains(writer.key(number)))
                #expect(seen.insert(writer.key(number)).inserted)
                #expect(writer.value(number).count == FailoverSettings.valueBytes)
            }
        }
    }

    @Test("a write that is gone, changed, or there although it was refused is found")
    func verification() async throws {
        let directory = try TemporaryDirectory()
        var configuration = Configuration(directory: directory.path + "/node")
        defer { DirectoryTree.remove(directory.path + "/node") }
        configuration.storage.state = .memory
        configuration.sharding.shardCount = 2
        configuration.wal.segmentMegabytes = 16
        let node = try await Node.start(configuration: configuration)
        let regions = try #require(node.core.topology).regions
        let writers = try FailoverWriters(regions: regions)
        let client = try Client(endpoints: [node.address])
        let writer = try #require(writers.writers.first)
        // Until its region has a leader a write may come to nothing.
        try await node.put(writer.key(99_999), writer.value(0))
        try await node.delete(writer.key(99_999))
        writers.watch(since: 0)
        // What the machine was too busy for in time is no part of what is looked at.
        while writers.counts.acknowledged < 12 { _ = await writer.write(with: client) }
        let acknowledged = writer.outcomes.indices.filter { writer.outcomes[$0] == .acknowledged }
        let (chosen, unwritten) = (acknowledged[7], writer.outcomes.count)
        #expect(writers.firstAcknowledged(in: writer.region.region) != nil)

        func report() async throws -> FailoverReport {
            var report = FailoverReport(settings: FailoverSettings())
            try await FailoverVerification(endpoints: [node.address]).run(writers, &report)
            return report
        }
        #expect(try await report().difference == nil)
        try await node.delete(writer.key(chosen))
        #expect(try await report().lost == 1)
        try await node.put(writer.key(chosen), writer.value(chosen + 1))
        let changed = try await report()
        #expect(changed.lost == 1 && changed.different == 1)
        try await node.put(writer.key(chosen), writer.value(chosen))
        try await node.put(writer.key(unwritten), writer.value(unwritten))
        #expect(try await report().different == 1)
        #expect(try await report().difference?.contains("1 keys") == true)
        // A stopped node refuses.
        await node.stop()
        await client.stop()
        _ = await writer.write(with: client)
        #expect(writer.outcomes.last == .failed)
    }
}
