// What the consensus core costs. Figures and how they were taken: Benchmarks/README.md.

import Benchmark
import UkehiBase
import UkehiRaft

/// Instructions are the same in every run, where the machine lets them be read; times are for
/// looking at. The library's counts of objects and references hook the runtime's retain and release,
/// which Swift 6.3 calls with registers the hooks do not keep: every run crashed with them.
let metrics: [BenchmarkMetric] = [.wallClock, .throughput, .cpuTotal, .instructions]

let benchmarks: @Sendable () -> Void = {
    Benchmark.defaultConfiguration = .init(
        metrics: metrics, warmupIterations: 10,
        scalingFactor: .kilo, maxDuration: .seconds(2), maxIterations: 2000)

    Benchmark("tick of an idle follower") { benchmark in
        let peer = try Peer.follower()
        // A heartbeat now and then keeps it from campaigning, as in life: one in eight ticks.
        let heartbeat = Message(kind: .heartbeat, to: PeerID(2), from: PeerID(1), term: Term(1))
        benchmark.startMeasurement()
        for iteration in benchmark.scaledIterations {
            peer.node.tick()
            if iteration % 8 == 0 {
                try peer.node.step(heartbeat)
                try peer.work()
            }
        }
    }

    Benchmark("heartbeat on a follower") { benchmark in
        let peer = try Peer.follower()
        let heartbeat = Message(kind: .heartbeat, to: PeerID(2), from: PeerID(1), term: Term(1))
        benchmark.startMeasurement()
        for _ in benchmark.scaledIterations {
            try peer.node.step(heartbeat)
            try peer.work()
        }
    }

    Benchmark("heartbeat answer on a leader") { benchmark in
        let peer = try Peer.leader(Peer.three, others: [2, 3])
        benchmark.startMeasurement()
        for _ in benchmark.scaledIterations {
            try peer.answer(.heartbeatResponse, from: 2, index: .zero)
            try peer.work()
        }
    }

    for (count, batch) in batches {
        Benchmark(
            "leader append of \(count), answered by two",
            configuration: .init(scalingFactor: count > 64 ? .one : .kilo)
        ) { benchmark in
            let peer = try Peer.leader(Peer.three, others: [2, 3])
            benchmark.startMeasurement()
            for _ in benchmark.scaledIterations {
                try peer.node.propose(batch: batch)
                try peer.work()
                try peer.acknowledge(from: 2)
                try peer.acknowledge(from: 3)
                try peer.work()
            }
        }

        Benchmark(
            "follower append of \(count)",
            configuration: .init(scalingFactor: count > 64 ? .one : .kilo)
        ) { benchmark in
            let peer = try Peer.follower()
            benchmark.startMeasurement()
            for _ in benchmark.scaledIterations { try peer.append(count) }
        }
    }

    Benchmark("commit advance in a joint configuration") { benchmark in
        let joint = ConfigurationState(
            voters: [PeerID(1), PeerID(2), PeerID(3)],
            votersOutgoing: [PeerID(1), PeerID(4), PeerID(5)])
        let peer = try Peer.leader(joint, others: [2, 3, 4, 5])
        benchmark.startMeasurement()
        for _ in benchmark.scaledIterations {
            try peer.node.propose(payload)
            try peer.work()
            // The second of these is the one that commits.
            try peer.acknowledge(from: 2)
            try peer.acknowledge(from: 4)
            try peer.work()
        }
        benchmark.stopMeasurement()
        guard peer.node.committed == peer.node.lastIndex else { fatalError("nothing committed") }
    }

    Benchmark("three members, batches of 64") { benchmark in
        let group = try Group()
        let batch = batches[1].1
        let before = group.committed
        benchmark.startMeasurement()
        for _ in benchmark.scaledIterations { try group.replicate(batch) }
        benchmark.stopMeasurement()
        guard group.committed - before == UInt64(benchmark.scaledIterations.count * 64) else {
            fatalError("not everything was committed")
        }
    }
}
