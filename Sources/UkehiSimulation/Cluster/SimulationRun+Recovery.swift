// Most nodes die for good, and what is left goes on by a plan (RULES 74): nothing may be lost but what the
// plan says may be, and whoever was declared dead is refused.

import UkehiBase
import UkehiNode

extension SimulationRun {
    private static let second: UInt64 = 1_000_000_000

    /// Kills a majority for good, and recovers. In peace: no other faults, but power cuts of survivors at the
    /// worst moments.
    func loseQuorum() {
        let world = cluster.world
        var random = SeededRandom(seed: recoverySeed)
        var numbers = Array(cluster.nodes.indices)
        numbers.shuffle(using: &random)
        let least = numbers.count / 2 + 1
        let dead = numbers.prefix(
            Int.random(in: least...max(least, numbers.count - 1), using: &random))
        let survivors = numbers.dropFirst(dead.count).sorted()
        guard !survivors.isEmpty,
            numbers.allSatisfy({ cluster.network.nodeID(of: $0) != nil })
        else { return }
        let deadIDs = Set(dead.compactMap { cluster.network.nodeID(of: $0) })
        cluster.observer.onLoss = { [unowned self] region, _ in
            excused.insert(region)
            sessions.isExcused = true
            digests.forget(region)
        }
        for number in dead {
            // Some of them were behind the others when they went.
            world.run(until: world.now + random.next() % 20_000_000)
            cluster.nodes[number].die()
            cluster.log.add(.ended(node: number, reason: "for good"))
        }
        world.run(until: world.now + 10 * Self.second)
        var reason = "no survivor answers"
        for _ in 0..<60 where world.failure == nil {
            guard let plan = plan(deadIDs, survivors) else {
                world.run(until: world.now + Self.second)
                continue
            }
            reason = plan.refusals.first ?? "an order was refused"
            if plan.refusals.isEmpty, carryOut(plan, survivors, &random) {
                return settle(plan, survivors, Array(dead), &random)
            }
            world.run(until: world.now + Self.second)
        }
        world.fail("the survivors cannot be recovered: \(reason)")
    }

    private func plan(_ dead: Set<NodeID>, _ survivors: [Int]) -> RecoveryPlan? {
        let surveys = survivors.compactMap { ask($0, Bytes()) }
        guard surveys.count == survivors.count else { return nil }
        return RecoveryPlan.make(dead: dead, surveys: surveys)
    }

    private func carryOut(
        _ plan: RecoveryPlan, _ survivors: [Int], _ random: inout SeededRandom
    ) -> Bool {
        cluster.observer.admittedLosses.formUnion(plan.forced.filter(\.mayLose).map(\.region))
        for number in survivors {
            guard ask(number, plan.preparation.encoded()) != nil else { return false }
        }
        if random.oneIn(3) {
            cutPower(survivors[Int(random.next() % UInt64(survivors.count))])
            return false
        }
        for number in survivors {
            guard let node = cluster.nodes[number].core?.nodeID else { return false }
            let order = plan.order(for: node)
            guard order.leads.isEmpty || ask(number, order.encoded()) != nil else { return false }
            if !order.leads.isEmpty, random.oneIn(2) { cutPower(number) }
        }
        recoveries += 1
        return true
    }

    /// And starts it again.
    private func cutPower(_ number: Int) {
        let world = cluster.world
        world.run(until: world.now + 1 + UInt64(number) * 3_000_000)
        cluster.nodes[number].cutPower()
        world.schedule(after: 200_000_000) { [node = cluster.nodes[number]] in node.start() }
        world.run(until: world.now + 2 * Self.second)
    }

    /// Every region that lost its quorum has a leader again and no dead members; then one of the dead is found.
    private func settle(
        _ plan: RecoveryPlan, _ survivors: [Int], _ dead: [Int], _ random: inout SeededRandom
    ) {
        let world = cluster.world
        let alive = Set(survivors.compactMap { cluster.network.nodeID(of: $0) })
        func open() -> RegionID? {
            plan.forced.map(\.region).first { region in
                let views = survivors.compactMap {
                    cluster.nodes[$0].lane?.memberView(of: region)
                }
                return !views.contains { alive.isSuperset(of: $0.descriptor.peers.map(\.node)) }
            }
        }
        for _ in 0..<60 where world.failure == nil && open() != nil {
            world.run(until: world.now + Self.second)
        }
        guard world.failure == nil else { return }
        if let region = open() {
            return world.fail(
                "a minute after its recovery the survivors have no leader, or dead members",
                region: region.rawValue)
        }
        let found = cluster.nodes[dead[Int(random.next() % UInt64(dead.count))]]
        cluster.observer.ignored.formUnion(dead)
        found.comeBackFromTheDead()
        world.run(until: world.now + 10 * Self.second)
        if world.failure == nil, !found.isDismissed {
            world.fail(
                "node-\(found.number + 1) was declared dead, came back and was not refused")
        }
        found.die()
    }

    /// What a survivor answers within two seconds.
    private func ask(_ number: Int, _ body: Bytes) -> RecoverySurvey? {
        let world = cluster.world
        guard let core = cluster.nodes[number].core else { return nil }
        let sink = SurveySink()
        core.submit(
            ClientRequest(operation: .recovery(body), key: Bytes(), sink: sink, tag: 0))
        let end = world.now + 2 * Self.second
        while sink.reply == nil, world.now < end, world.failure == nil {
            world.run(until: world.now + 1_000_000)
        }
        guard case .recovery(let bytes)? = sink.reply else { return nil }
        return try? RecoverySurvey.decode(bytes)
    }
}

private final class SurveySink: ReplySink, @unchecked Sendable {
    // Safety: a simulation uses one thread.
    var reply: Reply?
    override func reply(_ reply: Reply, tag: UInt64) { self.reply = reply }
}
