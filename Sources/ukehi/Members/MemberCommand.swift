// `ukehi member`: who holds the regions of a running cluster, and who shall.

import ArgumentParser
import Ukehi
import UkehiBase
import UkehiNode

struct MemberCommand: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "member",
        abstract: "Show and change which nodes hold the regions of a running cluster.",
        discussion: """
              ukehi member list
              ukehi member plan --region 4 --voters node-1,node-2,node-5
              ukehi member set --region 4 --voters node-1,node-2,node-5
              ukehi member replace node-3 --with node-5 --all
              ukehi member transfer-leader node-2 --region 4

            A change is made one safe step at a time: a new peer is added as a learner, catches up, votes in the
            place of the one that is to go, and only then is that one removed. `plan` shows the steps and changes
            nothing. All that is asked can be asked again: what is done already stays done.

            Nodes are named as in their configuration, or by id. --all means every region, the system region
            (1) included.
            """,
        subcommands: [
            List.self, Plan.self, Set.self, Add.self, Remove.self, Replace.self, Transfer.self,
        ])
}

/// Which regions are meant.
struct RegionSelection: ParsableArguments {
    @Option(help: "The region, by its number.") var region: UInt64?
    @Flag(help: "Every region of the cluster.") var all = false

    func validate() throws {
        guard (region != nil) != all else {
            throw ValidationError("give one of --region and --all")
        }
    }

    func regions(of topology: Topology) throws -> [RegionID] {
        let known = [RegionID.system] + topology.regions.map(\.region).sorted()
        guard let region else { return known }
        guard known.contains(RegionID(region)) else {
            let names = known.map { "\($0.rawValue)" }.joined(separator: ", ")
            throw ValidationError("--region \(region): the cluster has \(names)")
        }
        return [RegionID(region)]
    }
}

/// How long a change is waited for.
struct WaitOptions: ParsableArguments {
    @Option(help: "Seconds to wait for the change to be done.") var wait: Double = 120

    func validate() throws {
        guard (0...86_400).contains(wait) else {
            throw ValidationError("--wait \(wait): allowed are 0 to 86400 seconds")
        }
    }
}

/// Names of a cluster's nodes.
struct NodeNames {
    let topology: Topology

    func name(_ node: NodeID) -> String {
        topology.nodes.first { $0.node == node }?.name ?? "\(node)"
    }

    /// Whether it is no node of the cluster any more, and some region still counts on it.
    func isGone(_ node: NodeID) -> Bool {
        topology.nodes.first { $0.node == node }?.isGone ?? false
    }

    /// What to do about nodes that are gone; nil: there are none.
    var advice: String? {
        let gone = topology.nodes.filter(\.isGone)
        guard !gone.isEmpty else { return nil }
        return gone.map { node in
            "\(node.name) is no node of the cluster any more, and regions still count on it: "
                + "ukehi member replace \(node.node) --with NODE --all"
        }.joined(separator: "\n")
    }

    /// The node of a name or an id as `n3` or `3`.
    func node(_ text: String) throws -> NodeID {
        if let known = topology.nodes.first(where: { $0.name == text }) { return known.node }
        let digits = text.hasPrefix("n") ? String(text.dropFirst()) : text
        if let raw = UInt64(digits), topology.nodes.contains(where: { $0.node == NodeID(raw) }) {
            return NodeID(raw)
        }
        let names = topology.nodes.map(\.name).joined(separator: ", ")
        throw ValidationError("\(text) is no node of the cluster, which has \(names)")
    }

    /// The same for one that may be gone, as `n3`: regions count on it, or did if it may be forgotten. A name
    /// goes first: a node may be called so, and have another id.
    func pastNode(_ text: String, mayBeForgotten: Bool = false) throws -> NodeID {
        if text.hasPrefix("n"), !topology.nodes.contains(where: { $0.name == text }),
            let id = UInt64(text.dropFirst()).map({ NodeID($0) }),
            mayBeForgotten || topology.regions.contains(where: { $0.nodes.contains(id) })
        {
            return id
        }
        return try node(text)
    }

    func nodes(_ list: String) throws -> [NodeID] {
        let nodes = try list.split(separator: ",").map { try node(String($0)) }
        guard !nodes.isEmpty, Swift.Set(nodes).count == nodes.count else {
            throw ValidationError("name each node once, separated by commas")
        }
        return nodes
    }
}

extension MemberCommand {
    struct List: AsyncParsableCommand {
        static let configuration = CommandConfiguration(
            abstract: "Show the members of each region, as its leader knows them.")

        @Option(help: "Only this region, by its number.") var region: UInt64?
        @OptionGroup var connection: ConnectionOptions

        func run() async throws {
            try await connection.withClient { client in
                let topology = try await client.topology(timeout: connection.patience)
                let names = NodeNames(topology: topology)
                let known = [RegionID.system] + topology.regions.map(\.region).sorted()
                var table = MemberText.table
                for id in known where region == nil || region == id.rawValue {
                    let report = try await client.members(of: id, timeout: connection.patience)
                    if connection.json {
                        printLine(MemberText.json(report, names).text)
                    } else {
                        MemberText.add(report, names, to: &table)
                    }
                }
                if !connection.json {
                    for line in table.lines { printLine(line) }
                    if let advice = names.advice { printLine(advice) }
                }
            }
        }
    }

    struct Plan: AsyncParsableCommand {
        static let configuration = CommandConfiguration(
            abstract: "Show what a change would do, and why not; changes nothing.",
            discussion: "Exit code 1 if a region could not get there.")

        @Option(help: "The nodes that are to hold it, separated by commas.") var voters: String
        @OptionGroup var selection: RegionSelection
        @OptionGroup var connection: ConnectionOptions

        func run() async throws {
            try await connection.withClient { client in
                let topology = try await client.topology(timeout: connection.patience)
                let names = NodeNames(topology: topology)
                let wanted = try names.nodes(voters)
                var isPossible = true
                for id in try selection.regions(of: topology) {
                    let report = try await client.members(
                        of: id, .plan(wanted), timeout: connection.patience)
                    isPossible = isPossible && report.progress == .done
                    if connection.json {
                        printLine(MemberText.json(report, names).text)
                        continue
                    }
                    printLine("region \(id.rawValue):")
                    for (place, step) in report.steps.enumerated() {
                        printLine("  \(place + 1). \(step)")
                    }
                    if report.steps.isEmpty, report.progress == .done {
                        printLine("  nothing to do")
                    }
                    if report.progress != .done { printLine("  then no further: \(report.reason)") }
                }
                if !isPossible { throw Failure(status: ExitStatus.failure, message: "") }
            }
        }
    }

    struct Set: AsyncParsableCommand {
        static let configuration = CommandConfiguration(
            abstract: "Have these nodes, and no others, hold regions; waits until it is so.")

        @Option(help: "The nodes that are to hold it, separated by commas.") var voters: String
        @OptionGroup var selection: RegionSelection
        @OptionGroup var waiting: WaitOptions
        @OptionGroup var connection: ConnectionOptions

        func run() async throws {
            try await change(selection, waiting, connection) { names, _ in
                try names.nodes(voters)
            }
        }
    }

    struct Add: AsyncParsableCommand {
        static let configuration = CommandConfiguration(
            abstract: "Have a further node hold regions.")

        @Argument(help: "The node.") var node: String
        @OptionGroup var selection: RegionSelection
        @OptionGroup var waiting: WaitOptions
        @OptionGroup var connection: ConnectionOptions

        func run() async throws {
            try await change(selection, waiting, connection) { names, present in
                let new = try names.node(node)
                return present.contains(new) ? present : present + [new]
            }
        }
    }

    struct Remove: AsyncParsableCommand {
        static let configuration = CommandConfiguration(
            abstract: "Have a node hold regions no more.")

        @Argument(help: "The node.") var node: String
        @OptionGroup var selection: RegionSelection
        @OptionGroup var waiting: WaitOptions
        @OptionGroup var connection: ConnectionOptions

        func run() async throws {
            try await change(selection, waiting, connection) { names, present in
                let old = try names.pastNode(node)
                return present.filter { $0 != old }
            }
        }
    }

    struct Replace: AsyncParsableCommand {
        static let configuration = CommandConfiguration(
            abstract: "Have one node hold regions in the place of another.")

        @Argument(help: "The node that is to go.") var node: String
        @Option(name: .customLong("with"), help: "The node that takes its place.") var new: String
        @OptionGroup var selection: RegionSelection
        @OptionGroup var waiting: WaitOptions
        @OptionGroup var connection: ConnectionOptions

        func run() async throws {
            try await change(selection, waiting, connection) { names, present in
                let new = try names.node(new)
                // Asked again when it is done, the old one may be gone.
                let old = try names.pastNode(
                    node,
                    mayBeForgotten: names.topology.regions.contains { $0.nodes.contains(new) })
                guard present.contains(old) || present.contains(new) else { return present }
                return present.filter { $0 != old && $0 != new } + [new]
            }
        }
    }

    struct Transfer: AsyncParsableCommand {
        static let configuration = CommandConfiguration(
            commandName: "transfer-leader",
            abstract: "Hand the leadership of regions to a node that holds them.")

        @Argument(help: "The node.") var node: String
        @OptionGroup var selection: RegionSelection
        @OptionGroup var connection: ConnectionOptions

        func run() async throws {
            try await connection.withClient { client in
                let topology = try await client.topology(timeout: connection.patience)
                let names = NodeNames(topology: topology)
                let target = try names.node(node)
                let clock = ContinuousClock()
                for id in try selection.regions(of: topology) {
                    let end = clock.now + connection.patience
                    var report = try await client.members(
                        of: id, .transfer(target), timeout: connection.patience)
                    while report.leader != target, clock.now < end {
                        try await Task.sleep(for: .milliseconds(50))
                        report = try await client.members(of: id, timeout: connection.patience)
                    }
                    guard report.leader == target else {
                        throw Failure(
                            status: ExitStatus.failure,
                            message: "region \(id.rawValue) is still led by "
                                + "\(names.name(report.leader)); ask again")
                    }
                    if connection.json {
                        printLine(MemberText.json(report, names).text)
                    } else {
                        printLine("region \(id.rawValue) is led by \(names.name(target))")
                    }
                }
            }
        }
    }
}

/// Asks each region for a change, again and again until all are done: a region's next leader does not know
/// what the last one was asked for.
private func change(
    _ selection: RegionSelection, _ waiting: WaitOptions, _ connection: ConnectionOptions,
    _ wanted: (NodeNames, _ present: [NodeID]) throws -> [NodeID]
) async throws {
    try await connection.withClient { client in
        let topology = try await client.topology(timeout: connection.patience)
        let names = NodeNames(topology: topology)
        let clock = ContinuousClock()
        let end = clock.now + .milliseconds(Int64(waiting.wait * 1000))
        var open: [(region: RegionID, wanted: [NodeID], told: Int)] = []
        for id in try selection.regions(of: topology) {
            let report = try await client.members(of: id, timeout: connection.patience)
            let voters = report.members.filter { $0.roles.contains(.voter) }.map(\.node)
            open.append((id, try wanted(names, voters), 0))
        }
        while let next = open.first {
            let report = try await client.members(
                of: next.region, .set(next.wanted), timeout: connection.patience)
            if !connection.json, report.steps.count > next.told {
                for step in report.steps[next.told...] {
                    printLine("region \(next.region.rawValue): \(step)")
                }
                flushOutput()
            }
            open[0].told = report.steps.count
            switch report.progress {
            case .done:
                if connection.json {
                    printLine(MemberText.json(report, names).text)
                } else {
                    printLine("region \(next.region.rawValue): done")
                }
                open.removeFirst()
                continue
            case .refused:
                throw Failure(
                    status: ExitStatus.failure,
                    message: "region \(next.region.rawValue): \(report.reason)")
            case .none, .working, .waiting: break
            }
            guard clock.now < end else {
                let reason = report.reason.isEmpty ? "it is under way" : report.reason
                throw Failure(
                    status: ExitStatus.failure,
                    message: "region \(next.region.rawValue) is not done: \(reason) "
                        + "Ask again to go on.")
            }
            try await Task.sleep(for: .milliseconds(100))
        }
    }
}
