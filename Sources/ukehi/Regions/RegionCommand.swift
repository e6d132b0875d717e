// `ukehi region`: the ranges that a running cluster's keys are divided into.

import ArgumentParser
import Ukehi
import UkehiBase
import UkehiNode

struct RegionCommand: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "region",
        abstract: "Show the ranges that keys are divided into, and divide them.",
        discussion: """
              ukehi region list
              ukehi region show --key user/4711
              ukehi region hot --top 5
              ukehi region split --at user/5000
              ukehi region split --at user/2500 --at user/5000 --at user/7500

            A region is a range of keys, replicated by a group of its own. Divided, it keeps its number and what
            lies above the last key; a new region begins at its old beginning and ends at each key. Nothing is
            copied, and clients find the new regions by themselves. Regions that grow too large, or take too much of
            the load, are divided without being asked (`sharding.split_threshold_mb`,
            `sharding.split_load_per_second`).
            """,
        subcommands: [List.self, Show.self, Hot.self, Split.self])
}

extension RegionCommand {
    struct List: AsyncParsableCommand {
        static let configuration = CommandConfiguration(
            abstract:
                "Show all regions, in the order of their keys, as all nodes know them together.")

        @OptionGroup var connection: ConnectionOptions

        func run() async throws {
            try await connection.withClient { client in
                let view = try await client.view(timeout: connection.patience)
                let regions = (view.topology.regions + view.unreached).sorted {
                    $0.range.lower < $1.range.lower
                }
                RegionText.show(regions, of: view.topology, json: connection.json)
                if let gap = view.gap { throw Failure(status: ExitStatus.failure, message: gap) }
            }
        }
    }

    struct Show: AsyncParsableCommand {
        static let configuration = CommandConfiguration(
            abstract: "Show one region, by its number or by a key that it holds.",
            discussion: """
                With its load and its size, as its leader knows them, and why it was not divided where it would have been. Unknown where no leader
                answers.
                """)

        @Option(help: "The region, by its number.") var region: UInt64?
        @Option(help: "A key of it.") var key: BytesArgument?
        @OptionGroup var connection: ConnectionOptions

        func validate() throws {
            guard (region != nil) != (key != nil) else {
                throw ValidationError("give one of --region and --key")
            }
        }

        func run() async throws {
            try await connection.withClient { client in
                let view = try await client.view(timeout: connection.patience)
                let topology = view.topology
                let found = (topology.regions + view.unreached).filter { known in
                    region == known.region.rawValue
                        || key.map { known.range.contains($0.bytes) } ?? false
                }
                guard !found.isEmpty else {
                    throw ValidationError(
                        "there is no such region; `ukehi region list` shows those that are there")
                }
                for region in found {
                    let load = await load(of: region, client)
                    if connection.json {
                        printLine(RegionText.json(region, NodeNames(topology: topology), load).text)
                        continue
                    }
                    RegionText.show([region], of: topology, json: false)
                    for line in LoadText.lines(load) { printLine(line) }
                }
            }
        }

        private func load(of region: RegionInfo, _ client: Client) async -> RegionLoadInfo? {
            guard let leader = region.leader else { return nil }
            do throws(RequestError) {
                return try await client.regionLoads(
                    on: leader, LoadQuestion(region: region.region, top: 1),
                    timeout: connection.patience
                ).first
            } catch {
                return nil
            }
        }
    }

    struct Split: AsyncParsableCommand {
        static let configuration = CommandConfiguration(
            abstract: "Divide a region; shows the regions that come out of it.",
            discussion: """
                Every part must hold a key. What is refused changes nothing, and says why. When it is not known
                what became of it (exit code 69), `ukehi region list` tells.
                """)

        @Option(help: "The key that a region is to begin at; several, ascending.")
        var at: [BytesArgument]
        @OptionGroup var connection: ConnectionOptions

        func validate() throws {
            guard !at.isEmpty else { throw ValidationError("--at says where to divide") }
        }

        func run() async throws {
            try await connection.withClient { client in
                let regions = try await client.split(
                    at: at.map(\.bytes), timeout: connection.patience)
                let topology = try await client.topology(timeout: connection.patience)
                RegionText.show(regions, of: topology, json: connection.json)
            }
        }
    }
}

/// Regions in columns for people, a JSON object a line for machines.
enum RegionText {
    static func show(_ regions: [RegionInfo], of topology: Topology, json: Bool) {
        let names = NodeNames(topology: topology)
        guard !json else {
            for region in regions { printLine(self.json(region, names).text) }
            return
        }
        for line in table(regions, names).lines { printLine(line) }
    }

    static func table(_ regions: [RegionInfo], _ names: NodeNames) -> TextTable {
        var table = TextTable([
            ("REGION", .right), ("FROM", .left), ("TO", .left), ("EPOCH", .left),
            ("LEADER", .left), ("NODES", .left),
        ])
        for region in regions {
            table.append([
                "\(region.region.rawValue)",
                region.range.lower.isEmpty ? "(beginning)" : escaped(region.range.lower),
                region.range.upper.isEmpty ? "(end)" : escaped(region.range.upper),
                "\(region.epoch)", region.leader.map(names.name) ?? "unknown",
                region.nodes.map(names.name).joined(separator: " "),
            ])
        }
        return table
    }

    /// - Parameter load: Where it was asked for, and if it is known.
    static func json(
        _ region: RegionInfo, _ names: NodeNames, _ load: RegionLoadInfo?? = .none
    ) -> JSONValue {
        var fields: [(String, JSONValue)] = [
            ("region", .int(Int(clamping: region.region.rawValue))),
            ("from", .string(escaped(region.range.lower))),
            ("to", .string(escaped(region.range.upper))), ("epoch", .string("\(region.epoch)")),
            ("leader", region.leader.map { .string(names.name($0)) } ?? .null),
            ("nodes", .array(region.nodes.map { .string(names.name($0)) })),
        ]
        if let load { fields.append(("load", load.map { .object(LoadText.fields($0)) } ?? .null)) }
        return .object(fields)
    }
}
