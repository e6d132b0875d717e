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

    /// The region that was named; nil: all are meant.
    func only(of view: ClusterView) throws -> RegionID? {
        let regions = try regions(of: view)
        return all ? nil : regions.first
    }

    func regions(of view: ClusterView) throws -> [RegionID] {
        let known = [RegionID.system] + view.topology.regions.map(\.region).sorted()
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
                let view = try await client.view(timeout: connection.patience)
                let names = NodeNames(topology: view.topology)
                let known = [RegionID.system] + view.topology.regions.map(\.region).sorted()
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
                if region == nil, let gap = view.gap {
                    throw Failure(status: ExitStatus.failure, message: gap)
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
                let view = try await client.view(timeout: connection.patience)
                let names = NodeNames(topology: view.topology)
                let wanted = try names.nodes(voters)
                let silent = Swift.Set(view.silent.map(\.node))
                var isPossible = view.gap == nil || !selection.all
                for id in try selection.regions(of: view) {
                    var report = try await client.members(
                        of: id, .plan(wanted), timeout: connection.patience)
                    // Its leader plans as if each node did its part.
                    let members = report.members.map(\.node)
                    if report.progress == .done,
                        let node = wanted.first(where: {
                            silent.contains($0) && !members.contains($0)
                        })
                    {
                        report.progress = .waiting
                        report.reason =
                            "\(names.name(node)) does not answer: its peer would not catch up."
                    }
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
                let gap = selection.all ? view.gap : nil
                if !isPossible { throw Failure(status: ExitStatus.failure, message: gap ?? "") }
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
            try await change(selection, waiting, connection) { names in
                let nodes = try names.nodes(voters)
                return { _ in nodes }
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
            try await change(selection, waiting, connection) { names in
                let new = try names.node(node)
                return { $0.contains(new) ? $0 : $0 + [new] }
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
            try await change(selection, waiting, connection) { names in
                let old = try names.pastNode(node)
                return { present in present.filter { $0 != old } }
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
            try await change(selection, waiting, connection) { names in
                let new = try names.node(new)
                // Asked again when it is done, the old one may be gone.
                let old = try names.pastNode(
                    node,
                    mayBeForgotten: names.topology.regions.contains { $0.nodes.contains(new) })
                return { present in
                    guard present.contains(old) || present.contains(new) else { return present }
                    return present.filter { $0 != old && $0 != new } + [new]
                }
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
                let view = try await client.view(timeout: connection.patience)
                let names = NodeNames(topology: view.topology)
                let target = try names.node(node)
                let clock = ContinuousClock()
                for id in try selection.regions(of: view) {
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

/// Has regions changed, and says each step.
private func change(
    _ selection: RegionSelection, _ waiting: WaitOptions, _ connection: ConnectionOptions,
    _ wanted: (NodeNames) throws -> (_ present: [NodeID]) -> [NodeID]
) async throws {
    try await connection.withClient { client in
        let view = try await client.view(timeout: connection.patience)
        let names = NodeNames(topology: view.topology)
        let region = try selection.only(of: view)
        let wanted = try wanted(names)
        func told(_ event: MemberEvent) {
            switch event {
            case .step(let region, let step) where !connection.json:
                printLine("region \(region.rawValue): \(step)")
            case .waiting(let region, let reason) where !connection.json:
                printLine("region \(region.rawValue): waits: \(reason)")
            case .done(let report):
                printLine(
                    connection.json
                        ? MemberText.json(report, names).text
                        : "region \(report.region.rawValue): done")
            case .step, .waiting: return
            }
            flushOutput()
        }
        do throws(MemberChangeError) {
            try await client.changeMembers(
                of: region, timeout: .milliseconds(Int64(waiting.wait * 1000)),
                patience: connection.patience, told: told, wanted: wanted)
        } catch {
            switch error {
            case .refused(let region, let reason):
                throw Failure(
                    status: ExitStatus.failure, message: "region \(region.rawValue): \(reason)")
            case .notInTime(let region, let reason):
                throw Failure(
                    status: ExitStatus.failure,
                    message:
                        "region \(region.rawValue) is not done: \(reason) Its leader goes on with it; "
                        + "ask again to follow it, or `set` the members that it has to have it stop."
                )
            case .unknownRanges(let ranges, let silent):
                throw Failure(
                    status: ExitStatus.failure,
                    message: view.text(ranges, silent) + " The others are done.")
            case .failed(let error): throw error
            }
        }
    }
}

extension ClusterView {
    /// Which keys nobody who answers has a region for; nil: there are none.
    var gap: String? { unknown.isEmpty ? nil : text(unknown, silent) }

    fileprivate func text(_ ranges: [KeyRange], _ silent: [NodeAddress]) -> String {
        let names = silent.map(\.name).joined(separator: ", ")
        return "\(ranges.count) ranges of keys have no region on a node that answers"
            + (silent.isEmpty ? "." : "; \(names) did not answer.")
    }
}
