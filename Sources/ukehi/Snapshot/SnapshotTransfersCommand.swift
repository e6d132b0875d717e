// `ukehi snapshot transfers`: what is on its way between the nodes of a running cluster.

import ArgumentParser
import Ukehi
import UkehiBase
import UkehiNode

extension SnapshotCommand {
    struct Transfers: AsyncParsableCommand {
        static let configuration = CommandConfiguration(
            abstract: "Show the snapshots that a running cluster's nodes send to each other.",
            discussion: """
                A peer that lags too far, or is new, gets its region's state as a snapshot. Every \
                node is asked for what it sends and gets, so that a transfer is shown by both sides: \
                what they do is not the same. Done is what has come over, rate is the average since \
                the first byte, since is the time from the offer. Nothing is shown when nothing is \
                on its way. Exit code 1 if a node does not answer.
                """)

        @Option(help: "Only this node, by its name or id.") var node: String?
        @OptionGroup var connection: ConnectionOptions

        func run() async throws {
            try await connection.withClient { client in
                let topology = try await client.topology(timeout: connection.patience)
                let names = NodeNames(topology: topology)
                let asked =
                    try node.map { [try names.node($0)] }
                    ?? topology.nodes.filter { !$0.isGone }.map(\.node)
                var table = TransferText.table
                var silent: [String] = []
                for node in asked {
                    let transfers: [SnapshotTransferInfo]
                    do throws(RequestError) {
                        transfers = try await client.snapshotTransfers(
                            on: node, timeout: connection.patience)
                    } catch {
                        silent.append(names.name(node))
                        continue
                    }
                    for transfer in transfers {
                        if connection.json {
                            printLine(TransferText.json(transfer, of: node, names).text)
                        } else {
                            TransferText.add(transfer, of: node, names, to: &table)
                        }
                    }
                }
                if !connection.json { for line in table.lines { printLine(line) } }
                guard silent.isEmpty else {
                    throw Failure(
                        status: ExitStatus.failure,
                        message:
                            "no answer from \(silent.joined(separator: ", ")): its transfers are "
                            + "not shown")
                }
            }
        }
    }
}

/// Transfers in columns for people, in JSON for machines.
enum TransferText {
    static var table: TextTable {
        TextTable([
            ("NODE", .left), ("REGION", .right), ("", .left), ("PEER", .left), ("STAGE", .left),
            ("DONE", .right), ("OF", .right), ("", .right), ("RATE", .right), ("SINCE", .right),
        ])
    }

    static func add(
        _ transfer: SnapshotTransferInfo, of node: NodeID, _ names: NodeNames,
        to table: inout TextTable
    ) {
        let isKnown = transfer.totalBytes > 0
        let percent = isKnown ? transfer.doneBytes * 100 / transfer.totalBytes : 0
        table.append([
            names.name(node), "\(transfer.region.rawValue)",
            transfer.direction == .sends ? "to" : "from",
            transfer.node.map { names.name($0) } ?? "\(transfer.peer)",
            stage(transfer.stage), byteText(transfer.doneBytes),
            isKnown ? byteText(transfer.totalBytes) : "?", isKnown ? "\(percent) %" : "",
            transfer.bytesPerSecond > 0 ? byteText(transfer.bytesPerSecond) + "/s" : "",
            "\(transfer.milliseconds / 1000).\(transfer.milliseconds / 100 % 10) s",
        ])
    }

    static func stage(_ stage: SnapshotTransferInfo.Stage) -> String {
        switch stage {
        case .offered: "offered"
        case .making: "being made"
        case .moving: "moving"
        case .checking: "being checked"
        case .waiting: "waiting"
        case .installing: "being installed"
        case .taken: "taken"
        case .catchingUp: "catching up"
        }
    }

    static func json(
        _ transfer: SnapshotTransferInfo, of node: NodeID, _ names: NodeNames
    ) -> JSONValue {
        func number(_ value: UInt64) -> JSONValue { .int(Int(clamping: value)) }
        return .object([
            ("node", .string(names.name(node))), ("region", number(transfer.region.rawValue)),
            ("direction", .string(transfer.direction == .sends ? "sends" : "gets")),
            ("peer", number(transfer.peer.rawValue)),
            ("peer_node", transfer.node.map { .string(names.name($0)) } ?? .null),
            ("stage", .string("\(transfer.stage)")), ("done_bytes", number(transfer.doneBytes)),
            ("total_bytes", transfer.totalBytes > 0 ? number(transfer.totalBytes) : .null),
            ("bytes_per_second", number(transfer.bytesPerSecond)),
            ("since_ms", number(transfer.milliseconds)),
        ])
    }
}
