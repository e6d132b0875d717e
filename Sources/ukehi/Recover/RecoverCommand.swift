// `ukehi recover`: a cluster goes on that has lost most of its nodes for good.

import ArgumentParser
import Ukehi
import UkehiBase
import UkehiNode

struct RecoverCommand: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "recover",
        abstract:
            "Go on without nodes that are lost for good, where regions have lost their quorum.",
        discussion: """
              ukehi recover --dead node-2,node-3
              ukehi recover --dead node-2,node-3 --apply 1f2e3d4c
              ukehi recover --dead node-2,node-3 --create-empty --apply 1f2e3d4c

            The first shows a plan and what may be lost by it, and changes nothing. The second carries out that
            very plan; where anything has changed since, the plan is another one and has to be looked at again.

            This is for nodes whose disks are gone. As long as they can be started again, start them: nothing is
            lost then. A node that was declared dead is refused for good; with an empty data directory it joins
            as a new one. Ranges of which no survivor has anything stay without a region, and requests for their
            keys fail, until --create-empty makes them anew, with nothing in them. While most nodes of a region are there, `ukehi member replace` is what is needed.

            Exit code 1 if the plan must not be carried out, or was not to its end.
            """)

    @Option(help: "The nodes that are lost, by name or id, separated by commas.") var dead: String
    @Option(help: "Carry out the plan that has this fingerprint.") var apply: String?
    @Flag(help: "Make ranges that nobody has anew, empty: what they held is given up.")
    var createEmpty = false
    @OptionGroup var waiting: WaitOptions
    @OptionGroup var connection: ConnectionOptions

    func run() async throws {
        try await connection.withClient { client in
            let topology = try await client.topology(timeout: connection.patience)
            let names = NodeNames(topology: topology)
            let recovery = Recovery(
                client: client, topology: topology, dead: try Swift.Set(names.nodes(dead)),
                patience: connection.patience)
            let plan = try await recovery.plan()
            if connection.json {
                printLine(RecoveryText.json(plan, names).text)
            } else {
                for line in RecoveryText.lines(plan, names) { printLine(line) }
            }
            flushOutput()
            guard plan.refusals.isEmpty else {
                throw Failure(status: ExitStatus.failure, message: "")
            }
            guard let apply else {
                if !connection.json {
                    printLine("Nothing was changed. To carry it out: --apply \(plan.fingerprint)")
                }
                return
            }
            guard apply == plan.fingerprint else {
                throw Failure(
                    status: ExitStatus.failure,
                    message:
                        "this plan is \(plan.fingerprint), not \(apply): something has changed. "
                        + "Nothing was done. Look at it again.")
            }
            try await recovery.carryOut(plan)
            let waiting = try await recovery.wait(for: plan, seconds: waiting.wait)
            guard waiting.isEmpty else {
                let regions = waiting.map { "\($0.rawValue)" }.joined(separator: ", ")
                throw Failure(
                    status: ExitStatus.failure,
                    message: "ordered, but not done yet: regions \(regions). Their nodes go on by "
                        + "themselves; ask again to see how they stand.")
            }
            if !plan.missing.isEmpty, createEmpty { try await recovery.create(plan) }
            if !connection.json {
                printLine("done: every region has a leader, and no dead members.")
                if !plan.missing.isEmpty, !createEmpty {
                    printLine(
                        "\(plan.missing.count) ranges are still nobody's; --create-empty makes them anew."
                    )
                }
            }
        }
    }
}

/// Asks, plans and orders.
private struct Recovery {
    let client: Client
    let topology: Topology
    let dead: Swift.Set<NodeID>
    let patience: Duration

    /// What the survivors say comes to.
    func plan() async throws -> RecoveryPlan {
        var surveys: [RecoverySurvey] = []
        var answering: [String] = []
        for node in topology.nodes where !node.isGone {
            if dead.contains(node.node) {
                let seen = try? await client.topology(at: node.address, timeout: .seconds(1))
                if seen?.cluster == topology.cluster, seen?.node == node.node {
                    answering.append("\(node.name) answers at \(node.address): it is not dead.")
                }
                continue
            }
            if let survey = try? await client.survey(at: node.address, timeout: patience) {
                surveys.append(survey)
            }
        }
        guard !surveys.isEmpty else {
            throw Failure(
                status: ExitStatus.unavailable,
                message: "none of the nodes that are not named as dead answers")
        }
        var plan = RecoveryPlan.make(dead: dead, surveys: surveys)
        plan.refusals = answering + plan.refusals
        return plan
    }

    /// First everybody knows who is dead, then the chosen lead.
    func carryOut(_ plan: RecoveryPlan) async throws {
        for node in plan.survivors { try await order(plan.preparation, node) }
        for node in plan.survivors {
            let order = plan.order(for: node)
            if !order.leads.isEmpty { try await self.order(order, node) }
        }
    }

    /// Last, what nobody has: made by whoever leads the system region, then given members like others have.
    func create(_ confirmed: RecoveryPlan) async throws {
        let plan = try await self.plan()
        guard plan.missing.map(\.range) == confirmed.missing.map(\.range), plan.refusals.isEmpty,
            plan.forced.isEmpty
        else {
            throw Failure(
                status: ExitStatus.failure,
                message:
                    "the regions have their leaders, but no range was created: what is missing "
                    + "has changed. Look at the plan again.")
        }
        for node in plan.abandons.keys.sorted() { try await order(plan.clearance(for: node), node) }
        let system = try await client.members(of: .system, timeout: patience)
        try await order(plan.creation, system.leader)
        let alive = plan.registry.present.map(\.node)
        for region in try await found(plan.missing.map(\.range), on: system.leader) {
            let others = alive.filter { !region.nodes.contains($0) }.prefix(2)
            _ = try await client.members(
                of: region.region, .set(region.nodes + others), timeout: patience)
        }
    }

    /// The regions that were made of these ranges, once the node that makes them has them.
    private func found(_ ranges: [KeyRange], on node: NodeID) async throws -> [RegionInfo] {
        let address = topology.nodes.first { $0.node == node }?.address ?? ""
        for _ in 0..<50 {
            let seen = try? await client.topology(at: address, timeout: .seconds(1))
            let regions = (seen?.regions ?? []).filter { region in
                region.leader == node && ranges.contains(region.range)
            }
            if regions.count == ranges.count { return regions }
            try await Task.sleep(for: .milliseconds(200))
        }
        throw Failure(
            status: ExitStatus.failure,
            message:
                "ordered, but the new regions are not there yet. Make the plan anew: what it still "
                + "calls missing has to be ordered again.")
    }

    private func order(_ order: RecoveryOrder, _ node: NodeID) async throws {
        guard let address = topology.nodes.first(where: { $0.node == node })?.address else {
            return
        }
        for attempt in 0... {
            do throws(RequestError) {
                _ = try await client.survey(at: address, ordering: order, timeout: patience)
                return
            } catch {
                // Something of before is still being removed there: a matter of seconds.
                if case .rejected(.unavailable) = error, attempt < 50 {
                    try await Task.sleep(for: .milliseconds(200))
                    continue
                }
                throw Failure(
                    status: ExitStatus.failure,
                    message:
                        "\(node) did not do its part: \(error). What was done is safe; make the plan "
                        + "anew and carry it out.")
            }
        }
    }

    /// Regions that have no leader, or dead members, when the time is over.
    func wait(for plan: RecoveryPlan, seconds: Double) async throws -> [RegionID] {
        let clock = ContinuousClock()
        let end = clock.now + .milliseconds(Int64(seconds * 1000))
        var open = plan.forced.map(\.region)
        while true {
            var still: [RegionID] = []
            for region in open where !(await isWhole(region, plan)) { still.append(region) }
            open = still
            guard !open.isEmpty, clock.now < end else { return open }
            try await Task.sleep(for: .milliseconds(200))
        }
    }

    private func isWhole(_ region: RegionID, _ plan: RecoveryPlan) async -> Bool {
        guard let report = try? await client.members(of: region, timeout: .seconds(1)) else {
            return false
        }
        let gone = plan.registry.absent
        return report.members.allSatisfy { !gone.contains($0.node) }
    }
}
