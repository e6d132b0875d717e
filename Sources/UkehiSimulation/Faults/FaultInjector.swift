// Carries out a schedule on a cluster, and undoes each fault when its time is over.

import UkehiBase
import UkehiEnvironment
import UkehiNode
import UkehiWAL

final class FaultInjector: @unchecked Sendable {
    // Safety: a simulation uses one thread.
    private let world: World
    private let nodes: [SimulatedNode]
    private let network: SimulatedNetwork
    private let report: (Fault) -> Void
    /// The disks that may lose what they held: always a minority.
    let corruptible: Set<Int>
    private(set) var injected: [FaultKind: Int] = [:]
    /// Partitions and losses that are on now; the network is what they make together.
    private var networkFaults: [Fault] = []
    private var isHealing = false
    /// Nodes that lose power as soon as they are elected, and for which fault.
    private var electionTraps: [Int: Fault] = [:]

    init(
        world: World, nodes: [SimulatedNode], network: SimulatedNetwork,
        observer: ClusterObserver, seed: UInt64, report: @escaping (Fault) -> Void
    ) {
        self.world = world
        self.nodes = nodes
        self.network = network
        self.report = report
        var random = SeededRandom(seed: seed ^ 0x4449_534b)
        var numbers = Array(nodes.indices)
        numbers.shuffle(using: &random)
        corruptible = Set(numbers.prefix((nodes.count - 1) / 2))
        observer.onElected = { [weak self] number in
            guard let self, let fault = electionTraps.removeValue(forKey: number) else { return }
            crash(nodes[number], fault)
        }
        for node in nodes {
            node.onFailure = { [weak self, weak node] _ in
                // What a failed write left behind is anybody's guess: as after a power cut.
                guard let self, let node else { return }
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
            node.behaviour.slowness = 1
            node.behaviour.stalledUntil = 0
            world.resume(node.process)
            node.start()
        }
    }

    private func restart(_ node: SimulatedNode, after delay: UInt64) {
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
        case .pause:
            world.pause(node.process)
            end(fault) { [world] in world.resume(node.process) }
        case .slowDisk:
            node.behaviour.slowness = 20
            end(fault) { node.behaviour.slowness = 1 }
        case .stalledDisk:
            node.behaviour.stalledUntil = world.now + fault.duration
        case .failedWrite: failWrite(fault, node)
        case .diskFull: fillDisk(fault, node)
        case .corruption: corrupt(fault, node)
        case .clockJump:
            var random = SeededRandom(seed: fault.seed)
            node.clock.wallOffset = Int64.random(
                in: -3_600_000_000_000...3_600_000_000_000, using: &random)
        case .clockDrift:
            let usual = node.clock.driftPerMillion
            node.clock.setDrift(perMillion: Int64(fault.seed % 2001) - 1000)
            end(fault) { node.clock.setDrift(perMillion: usual) }
        case .loss, .duplication, .delay, .isolation, .oneWay, .split, .ring, .bridge, .flapping,
            .slowNode:
            networkFaults.append(fault)
            applyNetworkFaults()
            if fault.kind == .flapping { flap(fault) }
            end(fault) { [self] in
                networkFaults.removeAll { $0.number == fault.number }
                applyNetworkFaults()
            }
        }
    }

    private func end(_ fault: Fault, _ body: @escaping () -> Void) {
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

    // MARK: Disks

    /// One operation of the kinds that write fails, soon; then the disk works again.
    private func failWrite(_ fault: Fault, _ node: SimulatedNode) {
        let disk = node.disk
        let target = disk.operations + 1 + Int(fault.seed % 12)
        disk.setHook { [weak disk] operation throws(FileError) in
            guard operation.ordinal >= target, operation.kind != .read, operation.kind != .open,
                operation.kind != .list
            else { return }
            disk?.setHook(nil)
            throw FileError(
                kind: .ioFailed, operation: "\(operation.kind)", path: operation.path, errno: 5)
        }
    }

    /// Nothing new fits until the fault is over; what is reserved can be written.
    private func fillDisk(_ fault: Fault, _ node: SimulatedNode) {
        let disk = node.disk
        disk.setHook { operation throws(FileError) in
            guard operation.kind == .allocate else { return }
            throw FileError(
                kind: .noSpace, operation: "fallocate", path: operation.path, errno: 28)
        }
        end(fault) { disk.setHook(nil) }
    }

    /// The node is taken down, a sector of its log changes, and it has to notice.
    ///
    /// What no readable frame claims as durable is left alone: there a changed sector and a torn write
    /// look the same, whoever reads (docs/FORMATS.md).
    private func corrupt(_ fault: Fault, _ node: SimulatedNode) {
        guard corruptible.contains(node.number) else { return }
        node.cutPower()
        var random = SeededRandom(seed: fault.seed)
        let names = (try? node.disk.list("data/wal"))?.filter { $0.hasSuffix(".wal") } ?? []
        if let name = names.randomElement(using: &random) {
            let path = "data/wal/" + name
            if var bytes = node.disk.contents(path), bytes.count >= 8192 {
                let sectors = Int(claimedEnd(of: path, node) ?? UInt64(bytes.count)) / 512
                let sector = Int.random(in: 0..<sectors, using: &random) * 512
                if random.oneIn(2) {
                    // Misdirected: another sector's bytes.
                    let other = Int.random(in: 0..<sectors, using: &random) * 512
                    bytes.replaceSubrange(sector..<sector + 512, with: bytes[other..<other + 512])
                } else {
                    bytes[sector + Int.random(in: 0..<512, using: &random)] ^=
                        1 << UInt8.random(in: 0..<8, using: &random)
                }
                node.disk.replace(path, with: bytes)
            }
        }
        restart(node, after: fault.duration)
    }

    /// Where what is claimed as durable ends in a segment; nil when that is its whole length.
    private func claimedEnd(of path: String, _ node: SimulatedNode) -> UInt64? {
        var newest: WALInspector.SegmentInfo?
        var frames: [WALInspector.FrameInfo] = []
        try? WALInspector(fileSystem: node.disk, directory: "data/wal").dump { record in
            switch record {
            case .segment(let segment):
                newest = segment
                frames = []
            case .frame(let frame): frames.append(frame)
            case .entry: break
            }
            return true
        }
        guard let newest, path.hasSuffix(newest.fileName) else { return nil }
        let claimed = frames.map(\.durableLSN).max() ?? 0
        let last = frames.last { $0.lsn <= claimed }
        // The segment's header, of two blocks, is durable before anything is acknowledged.
        return last.map { $0.offset + UInt64($0.bytes) } ?? 8192
    }

    // MARK: The network

    private func flap(_ fault: Fault) {
        world.schedule(after: 150_000_000) { [self] in
            guard networkFaults.contains(where: { $0.number == fault.number }) else { return }
            applyNetworkFaults()
            flap(fault)
        }
    }

    /// Makes the network what all faults that are on make of it.
    private func applyNetworkFaults() {
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
            case .isolation: for other in others { cut(fault.node, other) }
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
            case .slowNode: network.setSlowness(30, of: fault.node)
            default: break
            }
        }
    }
}
