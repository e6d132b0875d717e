// Partitions and bad links: what several of them together make of the network.

import UkehiBase
import UkehiNode

extension FaultInjector {
    /// The fault, of the node that leads some region now; as it is, if nobody does.
    func aimed(_ fault: Fault) -> Fault {
        var leaders: [Int] = []
        for node in nodes where !node.process.isPaused {
            node.lane?.forEachPeer { peer, _ in
                if peer.isLeader { leaders.append(node.number) }
            }
        }
        guard !leaders.isEmpty else { return fault }
        var fault = fault
        fault.node = leaders[Int(fault.seed % UInt64(leaders.count))]
        return fault
    }

    /// The cut comes when some of what is to arrive late is under way.
    func cutLater(_ fault: Fault) {
        world.schedule(after: min(fault.duration / 2, lateness / 2)) { [self] in
            guard networkFaults.contains(where: { $0.number == fault.number }) else { return }
            cutOff.insert(fault.number)
            applyNetworkFaults()
        }
    }

    func flap(_ fault: Fault) {
        world.schedule(after: 150_000_000) { [self] in
            guard networkFaults.contains(where: { $0.number == fault.number }) else { return }
            applyNetworkFaults()
            flap(fault)
        }
    }

    /// Makes the network what all faults that are on make of it.
    func applyNetworkFaults() {
        network.heal()
        let count = nodes.count
        func cut(_ a: Int, _ b: Int) {
            network.setBlocked(true, from: a, to: b)
            network.setBlocked(true, from: b, to: a)
        }
        for fault in networkFaults {
            var random = SeededRandom(seed: fault.seed)
            let others = nodes.indices.filter { $0 != fault.node }
            switch fault.kind {
            case .loss: network.behaviour.lossPerTenThousand = [50, 500, 3000][Int(fault.seed % 3)]
            case .delay: network.behaviour.delayPerTenThousand = [30, 300][Int(fault.seed % 2)]
            case .duplication: network.behaviour.duplicationPerTenThousand = 2000
            case .isolation, .isolatedLeader: for other in others { cut(fault.node, other) }
            case .oneWay:
                for other in others {
                    if fault.seed % 2 == 0 {
                        network.setBlocked(true, from: fault.node, to: other)
                    } else {
                        network.setBlocked(true, from: other, to: fault.node)
                    }
                }
            case .split:
                var numbers = Array(nodes.indices)
                numbers.shuffle(using: &random)
                let side = Int.random(in: 1..<count, using: &random)
                for a in numbers[..<side] { for b in numbers[side...] { cut(a, b) } }
            case .ring:
                // Each node reaches only its neighbours.
                for a in nodes.indices {
                    for b in nodes.indices where b > a {
                        let distance = min(b - a, count - (b - a))
                        if distance > 1 { cut(a, b) }
                    }
                }
            case .bridge:
                // Two halves that only one node sees both of.
                let half = others.count / 2
                for a in others[..<half] { for b in others[half...] { cut(a, b) } }
            case .flapping:
                if (world.now / 150_000_000) % 2 == 0 {
                    for other in others { cut(fault.node, other) }
                }
            case .lateAnswers where cutOff.contains(fault.number):
                for other in others { cut(fault.node, other) }
            case .lateAnswers:
                network.behaviour.lateTo = fault.node
                network.behaviour.maxLateness = lateness
            case .slowNode: network.setSlowness(30, of: fault.node)
            default: break
            }
        }
    }
}
