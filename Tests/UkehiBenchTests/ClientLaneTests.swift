import Synchronization
import Testing
import UkehiBase
import UkehiNode
import UkehiState

@testable import UkehiCommand

/// A node in a test's hands: it keeps requests until the test answers them.
final class HeldTarget: RequestTarget, @unchecked Sendable {
    // Safety: behind the mutex.
    private let held = Mutex<[ClientRequest]>([])
    /// Refuses everything as overloaded, before `submit` returns, as a full mailbox does.
    let refusesAtOnce: Bool

    init(refusesAtOnce: Bool = false) { self.refusesAtOnce = refusesAtOnce }

    override func submit(_ requests: inout [ClientRequest]) {
        for request in requests {
            if refusesAtOnce {
                request.sink.reply(.failed(.rejected(.overloaded)), tag: request.tag)
                request.sink.flush()
            } else {
                held.withLock { $0.append(request) }
            }
        }
        requests.removeAll(keepingCapacity: true)
    }

    override func topology() async -> Topology? { nil }

    /// Takes what was submitted.
    func take() -> [ClientRequest] {
        held.withLock { held in
            defer { held = [] }
            return held
        }
    }
}

/// The closed loop: one operation per client at a time, each answered once, none forgotten.
@Suite("bench: closed-loop clients")
struct ClientLaneTests {
    static let node = NodeID(1)

    static func topology(led: Bool = true) -> Topology {
        let ranges = StaticRanges.ranges(count: 4)
        return Topology(
            cluster: ClusterID(high: 1, low: 1), node: node, nodes: [],
            regions: ranges.enumerated().map { position, range in
                RegionInfo(
                    region: RegionID(UInt64(position + 2)), range: range,
                    epoch: RegionEpoch(confVersion: 1, version: 1),
                    leader: led ? node : NodeID(2), nodes: [])
            })
    }

    private func settings(_ mix: String) throws -> BenchSettings {
        var settings = BenchSettings(mix: try #require(OperationMix(parsing: mix)))
        settings.keys = 1000
        return settings
    }

    private func lane(
        _ mix: String, clients: Int, target: HeldTarget, logs: ClientLane.Logs = .init(),
        led: Bool = true
    ) throws -> ClientLane {
        let workload = Workload(settings: try settings(mix), input: nil)
        let lane = ClientLane(
            target: target, workload: workload, clients: 0..<clients, totalClients: clients,
            seed: 1, logs: logs)
        lane.use(
            OwnedKeys(
                node: Self.node, topology: Self.topology(led: led), workload: workload))
        return lane
    }

    private func answer(_ requests: [ClientRequest], _ reply: (ClientRequest) -> Reply) {
        for request in requests { request.sink.reply(reply(request), tag: request.tag) }
        requests.last?.sink.flush()
    }

    @Test("a reply makes the client's next request, and stopping ends that")
    func closedLoop() throws {
        let target = HeldTarget()
        let lane = try lane("put=1", clients: 8, target: target)
        lane.start(preloading: false)
        var version: UInt64 = 0
        for _ in 0..<10 {
            let requests = target.take()
            #expect(requests.count == 8)
            #expect(Set(requests.map(\.tag)).count == 8)
            answer(requests) { _ in
                version += 1
                return .command(.applied(version: version))
            }
        }
        lane.stop()
        answer(target.take()) { _ in .command(.applied(version: 1000)) }
        #expect(target.take().isEmpty)
        #expect(lane.waiting == 0)
        #expect(lane.withTally { $0.writes.total } == 88)
    }

    @Test("a put is a valid record of its key, with the value of its stamp")
    func putsAreValid() throws {
        let target = HeldTarget()
        let lane = try lane("put=1", clients: 3, target: target)
        lane.start(preloading: false)
        for request in target.take() {
            guard case .write(let record) = request.operation,
                case .put(let key, let value, _) = try CommandRecord.decode(record)
            else {
                Issue.record("not a put")
                return
            }
            #expect(key == request.key)
            #expect(key.count == 16 && value.count == 128)
            #expect(
                lane.workload.value(Workload.stamp(client: Int(request.tag), sequence: 1)) == value)
        }
    }

    @Test("refused operations wait for a tick and count from their first try", arguments: [0, 1])
    func refusals(kind: Int) throws {
        let target = HeldTarget()
        let lane = try lane("put=1", clients: 4, target: target)
        lane.start(preloading: false)
        let region = Self.topology().regions[0]
        answer(target.take()) { _ in
            .failed(.rejected(kind == 0 ? .overloaded : .notLeader(region)))
        }
        #expect(target.take().isEmpty)
        #expect(lane.needsTopology == (kind == 1))
        lane.tick()
        #expect(target.take().count == 4)
        #expect(lane.withTally { $0.retries } == 4)
        #expect(lane.starved.clients == 0)  // They have asked again.
        #expect(lane.withTally { $0.writes.total } == 0)
        #expect(lane.waiting == 4)
    }

    @Test("a target that refuses before submit returns does not recurse")
    func refusesAtOnce() throws {
        let lane = try lane("put=1", clients: 100, target: HeldTarget(refusesAtOnce: true))
        lane.start(preloading: false)
        lane.tick()
        #expect(lane.withTally { $0.retries } == 200)
        #expect(lane.waiting == 100)
        lane.stop()
        lane.tick()
        #expect(lane.waiting == 0)
    }

    @Test("a preload puts each key once, then rests")
    func preload() throws {
        let target = HeldTarget()
        let lane = try lane("get=1", clients: 7, target: target)
        lane.start(preloading: true)
        var keys: Set<Bytes> = []
        var version: UInt64 = 0
        while lane.waiting > 0 {
            let requests = target.take()
            for request in requests { #expect(keys.insert(request.key).inserted) }
            answer(requests) { _ in
                version += 1
                return .command(.applied(version: version))
            }
        }
        #expect(keys.count == 1000)
    }

    @Test("a node that leads nothing gets nothing")
    func leadsNothing() throws {
        let target = HeldTarget()
        let lane = try lane("put=1", clients: 4, target: target, led: false)
        lane.start(preloading: false)
        lane.tick()
        #expect(target.take().isEmpty)
        lane.stop()
        lane.tick()
        #expect(lane.waiting == 0)
    }

    @Test("a read older than a write acknowledged before it is a violation")
    func staleRead() throws {
        let target = HeldTarget()
        let lane = try lane("get=1", clients: 1, target: target)
        lane.start(preloading: true)
        while lane.waiting > 0 {
            answer(target.take()) { _ in .command(.applied(version: 50)) }
        }
        lane.start(preloading: false)
        answer(target.take()) { _ in .value(VersionedValue(value: "new", version: 51)) }
        #expect(lane.withTally { $0.violation } == nil)
        answer(target.take()) { _ in .value(VersionedValue(value: "old", version: 49)) }
        #expect(lane.withTally { $0.violation }?.contains("version 49") == true)
    }

    @Test("histories: a compare-and-set expects what its client saw; unknown returns are null")
    func history() throws {
        let directory = try TemporaryDirectory()
        let writer = try ChunkWriter(path: directory.path + "/history")
        let target = HeldTarget()
        let lane = try lane(
            "cas=1", clients: 1, target: target,
            logs: ClientLane.Logs(acks: nil, history: writer))
        lane.start(preloading: false)
        answer(target.take()) { _ in .command(.applied(version: 1)) }
        answer(target.take()) { _ in .command(.conditionFailed(current: 7)) }
        answer(target.take()) { _ in .failed(.outcomeUnknown) }
        answer(target.take()) { _ in .failed(.rejected(.overloaded)) }
        lane.stop()
        lane.tick()
        lane.closeLogs()
        try writer.finish()
        let lines = try directory.text("history").split(separator: "\n")
        #expect(lines.count == 3)  // The refused one had no effect.
        #expect(lines[0].contains("\"process\":0,") && lines[0].contains("\"ok\":true"))
        #expect(lines[1].contains("\"ok\":false"))
        #expect(lines[2].contains("\"ok\":null") && lines[2].contains("\"return\":null"))
        #expect(lane.withTally { $0.unknown.count } == 1)
    }

    @Test("an input's lines are replayed in order, and again")
    func input() throws {
        let input = try InputFile(contents: "a\t1\nb\t2\na\t3\n", name: "test")
        let workload = Workload(settings: try settings("put=1"), input: input)
        let target = HeldTarget()
        let lane = ClientLane(
            target: target, workload: workload, clients: 0..<1, totalClients: 1, seed: 1,
            logs: .init())
        lane.use(OwnedKeys(node: Self.node, topology: Self.topology(), workload: workload))
        lane.start(preloading: false)
        var seen: [String] = []
        for version in 1...4 {
            for request in target.take() {
                guard case .write(let record) = request.operation,
                    case .put(let key, let value, _) = try CommandRecord.decode(record)
                else { continue }
                let text = key.array + [UInt8(ascii: "=")] + value.array
                seen.append(String(decoding: text, as: UTF8.self))
                request.sink.reply(
                    .command(.applied(version: UInt64(version))), tag: request.tag)
                request.sink.flush()
            }
        }
        #expect(seen == ["b=2", "a=3", "a=1", "b=2"])
    }
}
