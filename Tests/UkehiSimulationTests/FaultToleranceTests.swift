import Testing
import UkehiBase
import UkehiState

@testable import UkehiSimulation

/// 2n + 1 nodes with any n of them down at every moment: every operation ends well.
@Suite("Fault tolerance, simulated")
struct FaultToleranceTests {
    private static let keys: [Bytes] = [Bytes([0x10]), Bytes([0xd0])]

    /// A cluster of which a minority is down, another one each round.
    private final class Bed {
        let cluster: SimulatedCluster
        private var random: SeededRandom
        private var down: [Int] = []
        private var lastValue = 0
        /// What each key may have: the last value written, and those of unknown outcome since.
        private var possible: [Bytes: Set<Bytes>] = [:]

        init(seed: UInt64, nodes: Int) throws {
            cluster = SimulatedCluster(seed: seed, nodes: nodes, regions: 2)
            random = SeededRandom(seed: seed)
            try cluster.run(milliseconds: 6000)
            for key in FaultToleranceTests.keys { try write(key) }
            while down.count < (nodes - 1) / 2 { stopOne() }
        }

        private func draw(_ numbers: [Int]) -> Int {
            numbers[Int(random.next() % UInt64(numbers.count))]
        }

        private func stopOne() {
            let node = draw(cluster.nodes.indices.filter { !down.contains($0) })
            if random.oneIn(2) { cluster.kill(node: node) } else { cluster.cutPower(node: node) }
            down.append(node)
        }

        /// One of those that are down comes back, and in the same moment another one ends; soon, so that
        /// an operation may be under way.
        func change() {
            cluster.world.schedule(after: random.next() % 30_000_000) { [self] in
                let returning = draw(down)
                cluster.start(node: returning)
                down.removeAll { $0 == returning }
                stopOne()
            }
        }

        func startAll() {
            for node in down { cluster.start(node: node) }
            down = []
        }

        /// Writes until a write is acknowledged.
        func write(_ key: Bytes) throws {
            for _ in 0..<10 {
                lastValue += 1
                let value = Bytes("\(lastValue)")
                switch try cluster.write(.put(key: key, value: value)) {
                case .applied(let result):
                    #expect(result.version != nil)
                    possible[key] = [value]
                    return
                case .unknown: possible[key, default: []].insert(value)
                default: break
                }
            }
            Issue.record("no write was acknowledged; down were \(down)")
        }

        func read(_ key: Bytes) throws {
            for _ in 0..<10 {
                guard case .value(let found) = try cluster.get(key) else { continue }
                let value = try #require(found?.value)
                #expect(possible[key]?.contains(value) == true)
                return
            }
            Issue.record("no read was answered; down were \(down)")
        }
    }

    @Test(
        "with any minority down at every moment all operations end well",
        arguments: [3, 5, 7], [1, 2, 3] as [UInt64])
    func minorityDown(nodes: Int, seed: UInt64) throws {
        let bed = try Bed(seed: seed, nodes: nodes)
        for _ in 0..<15 {
            bed.change()
            for key in Self.keys {
                try bed.write(key)
                try bed.read(key)
            }
        }
        bed.startAll()
        try bed.cluster.run(milliseconds: 10_000)
        for key in Self.keys {
            try bed.read(key)
            var digests = try bed.cluster.digests(of: key)
            // A leader's own entries come at any time, and reach one replica after the other.
            for _ in 0..<20 where Set(digests.values.map(\.applied)).count > 1 {
                try bed.cluster.run(milliseconds: 50)
                digests = try bed.cluster.digests(of: key)
            }
            #expect(digests.count == nodes)
            #expect(Set(digests.values).count == 1, "\(digests)")
        }
    }
}
