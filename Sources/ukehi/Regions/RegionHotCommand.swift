// `ukehi region hot`: where the load of a running cluster is.

import ArgumentParser
import Ukehi
import UkehiBase
import UkehiNode

extension RegionCommand {
    struct Hot: AsyncParsableCommand {
        static let configuration = CommandConfiguration(
            abstract: "Show the regions that most is asked of, and where in them.",
            discussion: """
                Each node is asked what it counts of the regions that it leads: operations a second, on average over the \
                last few, and what they write and give back. Below each region are the parts that most of its load \
                is on, from the least to the greatest key that was seen of each, or one key alone, with its share of the \
                region's load and what reads and writes have of that; an operation counts as 1 KiB and its bytes. \
                Where a region would have been split and was not, a line says why. Exit code 1 if a node does not \
                answer.

                  ukehi region hot --endpoint 127.0.0.1:7878 --top 3
                """)

        @Option(help: "How many regions.") var top = 10
        @OptionGroup var connection: ConnectionOptions

        func validate() throws {
            guard (1...Limits.maxShownLoads).contains(top) else {
                throw ValidationError("--top is a number from 1 to \(Limits.maxShownLoads)")
            }
        }

        func run() async throws {
            try await connection.withClient { client in
                let topology = try await client.topology(timeout: connection.patience)
                let names = NodeNames(topology: topology)
                var loads: [RegionLoadInfo] = []
                var leaders: [RegionID: NodeID] = [:]
                var silent: [String] = []
                for node in topology.nodes where !node.isGone {
                    do throws(RequestError) {
                        let found = try await client.regionLoads(
                            on: node.node, LoadQuestion(top: top), timeout: connection.patience)
                        for load in found { leaders[load.region] = node.node }
                        loads += found
                    } catch {
                        silent.append(names.name(node.node))
                    }
                }
                let hottest = LoadQuestion(top: top).choose(loads)
                for line in LoadText.lines(hottest, leaders, names, json: connection.json) {
                    printLine(line)
                }
                guard silent.isEmpty else {
                    throw Failure(
                        status: ExitStatus.failure,
                        message:
                            "no answer from \(silent.joined(separator: ", ")): the regions that it "
                            + "leads are not shown")
                }
            }
        }
    }
}

/// Loads in columns for people, in JSON for machines.
enum LoadText {
    static func lines(
        _ loads: [RegionLoadInfo], _ leaders: [RegionID: NodeID], _ names: NodeNames, json: Bool
    ) -> [String] {
        func leader(_ load: RegionLoadInfo) -> String {
            leaders[load.region].map(names.name) ?? "unknown"
        }
        guard !json else {
            return loads.map { load in
                JSONValue.object(
                    [
                        ("region", .int(Int(clamping: load.region.rawValue))),
                        ("leader", .string(leader(load))),
                        ("from", .string(escaped(load.range.lower))),
                        ("to", .string(escaped(load.range.upper))),
                    ] + fields(load)
                ).text
            }
        }
        var table = TextTable([
            ("REGION", .right), ("LEADER", .left), ("OPS/S", .right), ("READS/S", .right),
            ("WRITES/S", .right), ("BYTES/S", .right), ("SIZE", .right), ("SHARE", .right),
            ("READS", .right), ("WRITES", .right), ("WHERE", .left),
        ])
        for load in loads {
            table.append([
                "\(load.region.rawValue)", leader(load), rate(load.operationsPerSecond),
                rate(load.readsPerSecond), rate(load.writesPerSecond),
                byteText(UInt64(load.bytesPerSecond)), size(load), "", "", "", "",
            ])
            for refusal in load.refusals {
                table.append(Array(repeating: "", count: 10) + [words(refusal)])
            }
            for part in load.hot {
                table.append(
                    Array(repeating: "", count: 7) + [
                        percent(part.share), percent(part.readShare), percent(part.writeShare),
                        keys(part),
                    ])
            }
        }
        return table.lines
    }

    /// Of one region, below its line.
    static func lines(_ load: RegionLoadInfo?) -> [String] {
        guard let load else { return ["load: not known, no leader answers"] }
        var lines = [
            "load: \(rate(load.operationsPerSecond)) operations/s (\(rate(load.readsPerSecond)) reads, "
                + "\(rate(load.writesPerSecond)) writes), \(byteText(UInt64(load.bytesPerSecond)))/s",
            "size: \(size(load))",
        ]
        lines += load.refusals.map(words)
        for part in load.hot {
            lines.append(
                "  \(percent(part.share)) of the load (\(percent(part.readShare)) reads, "
                    + "\(percent(part.writeShare)) writes): \(keys(part))")
        }
        return lines
    }

    static func fields(_ load: RegionLoadInfo) -> [(String, JSONValue)] {
        [
            ("reads_per_second", .number(load.readsPerSecond)),
            ("writes_per_second", .number(load.writesPerSecond)),
            ("bytes_per_second", .number(load.bytesPerSecond)),
            ("size_bytes", load.sizeBytes.map { .int(Int(clamping: $0)) } ?? .null),
            (
                "refusals",
                .array(
                    load.refusals.map { refusal in
                        .object([
                            ("of", .string(name(refusal.cause))),
                            ("reason", .string(refusal.reason)),
                            ("seconds_ago", .int(Int(clamping: refusal.secondsAgo))),
                        ])
                    })
            ),
            (
                "hot",
                .array(
                    load.hot.map { part in
                        .object([
                            ("first", .string(escaped(part.first))),
                            ("last", .string(escaped(part.last))), ("share", .number(part.share)),
                            ("read_share", .number(part.readShare)),
                            ("write_share", .number(part.writeShare)),
                        ])
                    })
            ),
        ]
    }

    private static func size(_ load: RegionLoadInfo) -> String {
        load.sizeBytes.map { byteText($0) } ?? "unknown"
    }
    private static func percent(_ share: Double) -> String {
        "\(Int((share * 100).rounded())) %"
    }
    private static func name(_ cause: SplitRefusalInfo.Cause) -> String {
        switch cause {
        case .load: "load"
        case .size: "size"
        }
    }
    private static func words(_ refusal: SplitRefusalInfo) -> String {
        "not split for its \(name(refusal.cause)), \(refusal.secondsAgo) s ago: \(refusal.reason)"
    }
    private static func keys(_ part: HotRange) -> String {
        part.first == part.last
            ? "\(escaped(part.first)) alone" : "\(escaped(part.first)) to \(escaped(part.last))"
    }
    private static func rate(_ rate: Double) -> String {
        rate > 0 && rate < 10 ? BenchFormat.ratio(rate) : "\(Int(rate.rounded()))"
    }
}
