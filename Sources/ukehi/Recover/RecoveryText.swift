// A recovery's plan in lines for people, in JSON for machines.

import Ukehi
import UkehiBase
import UkehiNode

enum RecoveryText {
    static func lines(_ plan: RecoveryPlan, _ names: NodeNames) -> [String] {
        var lines = [
            "dead:      " + list(plan.dead, names), "survivors: " + list(plan.survivors, names),
        ]
        let healthy = plan.regions.filter { $0.verdict == .healthy }
        var table = TextTable([
            ("REGION", .right), ("LED BY", .left), ("LAST", .right), ("COMMITTED", .right),
            ("UNDECIDED", .right), ("LOST", .left),
        ])
        for region in plan.forced + plan.lost {
            var leader = "nobody"
            if case .leads(_, let node) = region.verdict { leader = names.name(node) }
            table.append([
                "\(region.region.rawValue)", leader, "\(region.lastTerm).\(region.lastIndex)",
                "\(region.committed)", "\(region.undecided)", loss(region),
            ])
        }
        if plan.forced.isEmpty, plan.lost.isEmpty {
            lines.append("No region has lost its quorum.")
            if healthy.contains(where: { !$0.gone.isEmpty }) {
                lines.append(
                    "Some count on nodes that are gone: ukehi member replace NODE --with NODE --all"
                )
            }
        } else {
            lines += table.lines
            lines.append(
                "\(plan.forced.count) regions lost their quorum and get a leader, \(plan.lost.count) "
                    + "have nobody left, \(healthy.count) have theirs.")
            if plan.forced.contains(where: \.mayLose) {
                lines.append(
                    "LOST maybe: the dead could acknowledge entries by themselves. Whether they did, and "
                        + "how many, cannot be known from the survivors.")
            }
            if plan.forced.contains(where: { $0.undecided > 0 }) {
                lines.append(
                    "UNDECIDED: entries that survive and that nobody here knows to be committed. They "
                        + "will be; a client may have been told nothing of them.")
            }
        }
        if !plan.missing.isEmpty {
            lines.append(
                "MISSING: \(plan.missing.count) ranges are nobody's any more, requests for their keys fail:"
            )
            for creation in plan.missing { lines.append("  " + range(creation.range)) }
        }
        lines += plan.refusals.map { "refused: " + $0 }
        if plan.refusals.isEmpty { lines.append("plan \(plan.fingerprint)") }
        return lines
    }

    private static func range(_ range: KeyRange) -> String {
        "from " + (range.lower.isEmpty ? "(beginning)" : escaped(range.lower)) + " to "
            + (range.upper.isEmpty ? "(end)" : escaped(range.upper))
    }

    private static func loss(_ region: RegionRecovery) -> String {
        switch region.verdict {
        case .healthy: "nothing"
        case .leads: region.mayLose ? "maybe" : "nothing"
        case .lost: "everything"
        }
    }

    private static func list(_ nodes: [NodeID], _ names: NodeNames) -> String {
        nodes.map { "\(names.name($0)) (\($0))" }.joined(separator: ", ")
    }

    static func json(_ plan: RecoveryPlan, _ names: NodeNames) -> JSONValue {
        func nodes(_ nodes: [NodeID]) -> JSONValue { .array(nodes.map { .string(names.name($0)) }) }
        return .object([
            ("plan", .string(plan.fingerprint)), ("dead", nodes(plan.dead)),
            ("survivors", nodes(plan.survivors)),
            ("generation", .int(Int(clamping: plan.registry.generation))),
            (
                "regions",
                .array(
                    plan.regions.map { region in
                        let (verdict, leader): (String, JSONValue) =
                            switch region.verdict {
                            case .healthy: ("healthy", .null)
                            case .leads(_, let node): ("led", .string(names.name(node)))
                            case .lost: ("lost", .null)
                            }
                        return .object([
                            ("region", .int(Int(clamping: region.region.rawValue))),
                            ("verdict", .string(verdict)), ("leader", leader),
                            ("survivors", nodes(region.survivors)), ("gone", nodes(region.gone)),
                            ("last_term", .int(Int(clamping: region.lastTerm.rawValue))),
                            ("last_index", .int(Int(clamping: region.lastIndex.rawValue))),
                            ("committed", .int(Int(clamping: region.committed.rawValue))),
                            ("undecided", .int(Int(clamping: region.undecided))),
                            ("may_lose", .bool(region.mayLose)),
                        ])
                    })
            ),
            (
                "missing",
                .array(
                    plan.missing.map { creation in
                        .object([
                            ("from", .string(escaped(creation.range.lower))),
                            ("to", .string(escaped(creation.range.upper))),
                        ])
                    })
            ),
            ("refused", .array(plan.refusals.map { .string($0) })),
        ])
    }
}
