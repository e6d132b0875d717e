import Testing
import UkehiBase
import UkehiNode
import UkehiState

@testable import UkehiCommand

/// A client that reads, and writes only over what it has read.
@Suite("bench: read-modify-write")
struct ReadModifyWriteTests {
    private func lane(
        _ mix: String, workload kind: WorkloadKind, keys: Int = 1000, target: HeldTarget
    ) throws -> ClientLane {
        var settings = BenchSettings(mix: try #require(OperationMix(parsing: mix)))
        settings.keys = keys
        settings.workload = kind
        let workload = Workload(settings: settings, input: nil)
        let lane = ClientLane(
            target: target, workload: workload, clients: 0..<1, totalClients: 1, seed: 1,
            logs: .init())
        let topology = Topology(
            cluster: ClusterID(high: 1, low: 2), node: NodeID(1), nodes: [],
            regions: [
                RegionInfo(
                    region: RegionID(2), range: KeyRange(lower: "", upper: ""),
                    epoch: RegionEpoch(confVersion: 1, version: 1), leader: NodeID(1), nodes: [])
            ])
        lane.use(OwnedKeys(node: NodeID(1), topology: topology, workload: workload))
        return lane
    }

    private func answer(_ request: ClientRequest, _ reply: Reply) {
        request.sink.reply(reply, tag: request.tag)
        request.sink.flush()
    }

    private func condition(_ request: ClientRequest) throws -> UkehiState.Expectation? {
        guard case .write(let record) = request.operation,
            case .compareAndSet(let key, let expected, _, _) = try CommandRecord.decode(record)
        else { return nil }
        #expect(key == request.key)
        return expected
    }

    private func isRead(_ request: ClientRequest) -> Bool {
        if case .get = request.operation { true } else { false }
    }

    @Test("the key that was read is written, if nobody did meanwhile; else it is read again")
    func steps() throws {
        let target = HeldTarget()
        let lane = try lane("modify=1", workload: .ycsbF, target: target)
        lane.start(preloading: false)
        let read = try #require(target.take().first)
        #expect(isRead(read))
        answer(read, .value(VersionedValue(value: "x", version: 5)))
        let write = try #require(target.take().first)
        #expect(write.key == read.key)
        #expect(try condition(write) == .version(5))
        // Somebody was quicker.
        answer(write, .command(.conditionFailed(current: nil)))
        let again = try #require(target.take().first)
        #expect(isRead(again) && again.key == read.key)
        answer(again, .value(nil))
        let second = try #require(target.take().first)
        #expect(try condition(second) == .absent)
        // A refusal changed nothing: the same again.
        answer(second, .failed(.rejected(.overloaded)))
        #expect(target.take().isEmpty)
        lane.tick()
        let third = try #require(target.take().first)
        #expect(third.key == read.key)
        #expect(try condition(third) == .absent)
        answer(third, .command(.applied(version: 9)))
        // A new one, from its beginning.
        #expect(isRead(try #require(target.take().first)))
        lane.withTally { tally in
            #expect(tally.writes.total == 1 && tally.reads.total == 0)
            #expect(tally.failedConditions == 1 && tally.retries == 1)
            #expect(tally.violation == nil)
            #expect((0..<1000).count { tally.table[$0].version == 9 } == 1)
        }
    }

    @Test("what a read saw must not be older than what was acknowledged before")
    func staleRead() throws {
        let target = HeldTarget()
        let lane = try lane("modify=1", workload: .ycsbF, keys: 1, target: target)
        lane.start(preloading: false)
        answer(try #require(target.take().first), .value(nil))
        answer(try #require(target.take().first), .command(.applied(version: 9)))
        answer(
            try #require(target.take().first), .value(VersionedValue(value: "x", version: 8)))
        #expect(lane.withTally { $0.violation } != nil)
    }

    @Test("a refused operation is tried again as it is: refusals do not change the distribution")
    func sameAgain() throws {
        let target = HeldTarget()
        let lane = try lane("get=1,put=1", workload: .zipf, target: target)
        lane.start(preloading: false)
        for _ in 0..<20 {
            let first = try #require(target.take().first)
            answer(first, .failed(.rejected(.overloaded)))
            lane.tick()
            let second = try #require(target.take().first)
            #expect(second.key == first.key && isRead(second) == isRead(first))
            answer(
                second,
                isRead(second)
                    ? .value(VersionedValue(value: "x", version: 1000))
                    : .command(.applied(version: 1000)))
        }
        #expect(lane.withTally { $0.writes.total + $0.reads.total } == 20)
    }

    @Test("lanes that may all use every key preload each of them once")
    func preload() throws {
        var settings = BenchSettings(mix: try #require(OperationMix(parsing: "put=1")))
        settings.keys = 10
        settings.workload = .uniform
        let workload = Workload(settings: settings, input: nil)
        let target = HeldTarget()
        var keys: [Bytes] = []
        for part in 0..<3 {
            let lane = ClientLane(
                target: target, workload: workload, clients: part..<part + 1, totalClients: 3,
                seed: 1, logs: .init(), part: (part, 3))
            let topology = Topology(
                cluster: ClusterID(high: 1, low: 2), node: NodeID(1), nodes: [],
                regions: [
                    RegionInfo(
                        region: RegionID(2), range: KeyRange(lower: "", upper: ""),
                        epoch: RegionEpoch(confVersion: 1, version: 1), leader: NodeID(1),
                        nodes: [])
                ])
            lane.use(OwnedKeys(node: NodeID(1), topology: topology, workload: workload))
            lane.start(preloading: true)
            while let request = target.take().first {
                keys.append(request.key)
                answer(request, .command(.applied(version: 1)))
            }
            #expect(lane.waiting == 0)
        }
        #expect(keys.sorted() == workload.allKeys().sorted())
    }
}
