// Carries out a schedule on a cluster, and undoes each fault when its time is over.

import UkehiBase
import UkehiEnvironment
import UkehiNode
import UkehiWAL

final class FaultInjector: @unchecked Sendable {
    // Safety: a simulation uses one thread.
    let world: World
    let nodes: [SimulatedNode]
    let network: SimulatedNetwork
    private let report: (Fault) -> Void
    /// The disks that may lose what they held: a minority, but in the scenario `rot`.
    let corruptible: Set<Int>
    private(set) var injected: [FaultKind: Int] = [:]
    /// Partitions and losses that are on now; the network is what they make together.
    var networkFaults: [Fault] = []
    /// Those of them that began by making packets late and are partitions by now.
    var cutOff: Set<Int> = []
    /// How late late answers are at most, nanoseconds: longer than an election takes.
    let lateness: UInt64
    private(set) var isHealing = false
    /// Nodes that lose power as soon as they are elected, and for which fault.
    private var electionTraps: [Int: Fault] = [:]

    init(
        world: World, nodes: [SimulatedNode], network: SimulatedNetwork,
        observer: ClusterObserver, seed: UInt64, electionTimeoutMilliseconds: Int,
        rotsAll: Bool = false,
        report: @escaping (Fault) -> Void,
        ended: @escaping (_ node: Int, _ reason: String) -> Void = { _, _ in }
    ) {
        self.world = world
        self.nodes = nodes
        self.network = network
        self.report = report
        lateness = UInt64(electionTimeoutMilliseconds) * 1_500_000
        var random = SeededRandom(seed: seed ^ 0x4449_534b)
        var numbers = Array(nodes.indices)
        numbers.shuffle(using: &random)
        corruptible = Set(numbers.prefix(rotsAll ? nodes.count : (nodes.count - 1) / 2))
        observer.onElected = { [weak self] number in
            guard let self, let fault = electionTraps.removeValue(forKey: number) else { return }
            crash(nodes[number], fault)
        }
        for node in nodes {
            node.onFailure = { [weak self, weak node] error in
                // What a failed write left behind is anybody's guess: as after a power cut.
                guard let self, let node else { return }
                ended(node.number, "\(error)")
                node.cutPower()
                restart(node, after: 200_000_000)
            }
        }
    }

    func run(_ schedule: FaultSchedule) {
        for fault in schedule.faults {
            world.schedule(after: fault.at - min(fault.at, world.now)) { [self] in begin(fault) }
        }
    }

    /// No faults from now on; everybody is up who can be.
    func heal() {
        isHealing = true
        networkFaults = []
        electionTraps = [:]
        network.heal()
        for node in nodes {
            node.disk.setHook(nil)
            node.disk.setVolume(byteCount: nil)
            node.behaviour.slowness = 1
            node.behaviour.stalledUntil = 0
            node.storeStalledUntil = 0
            node.slowness = 1
            world.resume(node.process)
            node.start()
        }
    }

    func restart(_ node: SimulatedNode, after delay: UInt64) {
        world.schedule(after: delay) { node.start() }
    }

    private func begin(_ fault: Fault) {
        guard !isHealing else { return }
        injected[fault.kind, default: 0] += 1
        report(fault)
        world.trace.mix(UInt64(fault.number) << 8 ^ 0xF)
        let node = nodes[fault.node]
        switch fault.kind {
        case .kill:
            node.kill()
            restart(node, after: fault.duration)
        case .powerCut:
            node.cutPower()
            restart(node, after: fault.duration)
        case .blackout:
            for node in nodes {
                node.cutPower()
                restart(node, after: fault.duration % 1_000_000_000)
            }
        case .crashAtWork: setTrap(fault, node)
        case .killThenCut: killThenCut(fault, node)
        case .pause:
            world.pause(node.process)
            end(fault) { [world] in world.resume(node.process) }
        case .slowDisk:
            node.behaviour.slowness = 20
            end(fault) { node.behaviour.slowness = 1 }
        case .stalledDisk:
            node.behaviour.stalledUntil = world.now + fault.duration
        case .stalledStore: stallStore(fault, node)
        case .failedWrite, .failedSync, .failedRead, .fullAtWrite: failOperation(fault, node)
        case .diskFull: fillDisk(fault, node)
        case .corruption, .misdirection, .rot: corrupt(fault, node)
        case .rottenEntries: rotEntries(fault, node)
        case .slowProcess:
            node.slowness = 50
            end(fault) { node.slowness = 1 }
        case .clockJump:
            var random = SeededRandom(seed: fault.seed)
            node.clock.wallOffset = Int64.random(
                in: -3_600_000_000_000...3_600_000_000_000, using: &random)
            if fault.seed % 4 == 0 { node.clock.jump(aheadBy: fault.duration) }
        case .clockDrift:
            let usual = node.clock.driftPerMillion
            node.clock.setDrift(perMillion: Int64(fault.seed % 2001) - 1000)
            end(fault) { node.clock.setDrift(perMillion: usual) }
        case .loss, .duplication, .delay, .isolation, .isolatedLeader, .oneWay, .split, .ring,
            .bridge, .flapping, .slowNode, .lateAnswers:
            networkFaults.append(
                [.isolatedLeader, .lateAnswers].contains(fault.kind) ? aimed(fault) : fault)
            applyNetworkFaults()
            if fault.kind == .flapping { flap(fault) }
            if fault.kind == .lateAnswers { cutLater(fault) }
            end(fault) { [self] in
                networkFaults.removeAll { $0.number == fault.number }
                applyNetworkFaults()
            }
        }
    }

    /// One in two begins with a kill: what the process does again when it is back is long on its way, while
    /// its peers go on.
    private func stallStore(_ fault: Fault, _ node: SimulatedNode) {
        var start = world.now
        if fault.seed % 2 == 0 {
            node.kill()
            let delay = 1_000_000_000 + fault.seed % 5_000_000_000
            restart(node, after: delay)
            start += delay
        }
        node.storeStalledUntil = start + 500_000_000 + fault.duration
    }

    func end(_ fault: Fault, _ body: @escaping () -> Void) {
        world.schedule(after: fault.duration) { [self] in
            if !isHealing { body() }
        }
    }

    // MARK: Crashes at the worst moments

    /// Waits for the node to be elected, or to do something of one kind on its disk.
    private func setTrap(_ fault: Fault, _ node: SimulatedNode) {
        let kinds: [SimulatedOperation.Kind] = [
            .rename, .syncDirectory, .remove, .allocate, .truncate, .sync, .writeDurably,
        ]
        let choice = Int((fault.seed >> 8) % UInt64(kinds.count * 2))
        guard choice < kinds.count else {
            electionTraps[node.number] = fault
            end(fault) { [self] in
                if electionTraps[node.number]?.number == fault.number {
                    electionTraps[node.number] = nil
                }
            }
            return
        }
        let disk = node.disk
        disk.setHook { [weak self, weak disk, weak node] operation throws(FileError) in
            guard operation.kind == kinds[choice] else { return }
            disk?.setHook(nil)
            guard let self, let node else { return }
            crash(node, fault)
        }
        end(fault) { disk.setHook(nil) }
    }

    /// Kills the process at its next write, and cuts the power soon after it has come back: what its
    /// first life wrote and did not sync could be read by the second one.
    private func killThenCut(_ fault: Fault, _ node: SimulatedNode) {
        let disk = node.disk
        disk.setHook { [weak self, weak disk, weak node] operation throws(FileError) in
            guard [.create, .write, .writeDurably].contains(operation.kind) else { return }
            disk?.setHook(nil)
            guard let self, let node else { return }
            let life = node.process.life
            // Not from within the write.
            world.schedule(after: fault.seed % 100_000) { [self] in
                guard node.process.life == life, !isHealing else { return }
                node.kill()
                restart(node, after: 1)
                world.schedule(after: 2 + (fault.seed >> 20) % 100_000_000) { [self] in
                    guard !isHealing else { return }
                    node.cutPower()
                    restart(node, after: fault.duration)
                }
            }
        }
        end(fault) { disk.setHook(nil) }
    }

    /// Cuts the power right after what the node is doing, or within a millisecond of it; what it has
    /// sent since may never leave it.
    private func crash(_ node: SimulatedNode, _ fault: Fault) {
        let life = node.process.life
        let delay = fault.seed % 3 == 0 ? 0 : fault.seed % 1_000_000
        let start = world.now
        world.schedule(after: delay) { [self] in
            guard node.process.life == life, !isHealing else { return }
            if (fault.seed >> 24) % 2 == 0 { network.swallow(packetsOf: node.number, since: start) }
            node.cutPower()
            restart(node, after: fault.seed % 4 == 0 ? fault.duration : 1 + fault.seed % 20_000_000)
        }
    }
}
