// Members in columns for people, in JSON for machines.

import Ukehi
import UkehiBase
import UkehiNode

enum MemberText {
    static var table: TextTable {
        TextTable([
            ("REGION", .right), ("EPOCH", .left), ("PEER", .left), ("NODE", .left),
            ("ROLE", .left), ("BEHIND", .right), ("STATE", .left),
        ])
    }

    static func add(_ report: MemberReport, _ names: NodeNames, to table: inout TextTable) {
        for member in report.members {
            let isLeader = member.node == report.leader
            table.append([
                "\(report.region.rawValue)", "\(report.epoch)", "\(member.peer)",
                names.name(member.node), isLeader ? "leader" : role(member.roles),
                "\(lag(member, report))", standing(member, names),
            ])
        }
    }

    private static func standing(_ member: MemberInfo, _ names: NodeNames) -> String {
        if names.isGone(member.node) { return "gone" }
        return member.isActive ? "answers" : "silent"
    }

    private static func lag(_ member: MemberInfo, _ report: MemberReport) -> UInt64 {
        report.lastIndex > member.match ? report.lastIndex - member.match : 0
    }

    private static func role(_ roles: MemberInfo.Roles) -> String {
        if roles.contains(.nextLearner) { return "voter, to be learner" }
        if roles == .outgoingVoter { return "voter, to go" }
        if roles.contains(.learner) { return "learner" }
        return "voter"
    }

    static func json(_ report: MemberReport, _ names: NodeNames) -> JSONValue {
        let progress =
            switch report.progress {
            case .none: "none"
            case .working: "working"
            case .waiting: "waiting"
            case .done: "done"
            case .refused: "refused"
            }
        return .object([
            ("region", .int(Int(clamping: report.region.rawValue))),
            ("epoch", .string("\(report.epoch)")),
            ("leader", .string(names.name(report.leader))),
            ("last_index", .int(Int(clamping: report.lastIndex.rawValue))),
            (
                "members",
                .array(
                    report.members.map { member in
                        .object([
                            ("peer", .int(Int(clamping: member.peer.rawValue))),
                            ("node", .string(names.name(member.node))),
                            ("role", .string(role(member.roles))),
                            ("behind", .int(Int(clamping: lag(member, report)))),
                            ("answers", .bool(member.isActive)),
                            ("gone", .bool(names.isGone(member.node))),
                        ])
                    })
            ),
            ("wanted", .array(report.wanted.map { .string(names.name($0)) })),
            ("progress", .string(progress)), ("reason", .string(report.reason)),
            ("steps", .array(report.steps.map { .string($0) })),
        ])
    }
}
