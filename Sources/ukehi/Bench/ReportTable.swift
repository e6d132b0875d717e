// The report for people: one table, in the order in which one asks.

import UkehiNode

extension BenchReport {
    /// The lines of the table.
    var table: String {
        var lines: [String] = []
        func row(_ name: String, _ text: String) {
            lines.append("  " + name.padded(to: 12) + text)
        }
        func rule() { lines.append("  " + String(repeating: "─", count: 78)) }

        lines.append("")
        lines.append("  " + headline)
        rule()
        row(
            "",
            "per second".leftPadded(to: 14)
                + ["p50", "p90", "p99", "p99.9", "max"].map { $0.leftPadded(to: 10) }.joined())
        if settings.mix.writes { lines.append(latencyRow("writes", writesPerSecond, writes)) }
        if settings.mix.weights[0] > 0 {
            lines.append(latencyRow("reads", readsPerSecond, reads))
        }
        rule()
        if let offeredPerSecond {
            let peak =
                peakPerSecond.map { "of \(BenchFormat.count($0)) in a closed loop before" } ?? ""
            row("offered", "\(BenchFormat.count(offeredPerSecond)) operations/s \(peak)")
        }
        if !logs.isEmpty && settings.mix.writes {
            let each = logs.map {
                BenchFormat.count(Double($0.fsyncs) / max(seconds, 1e-9))
            }
            row(
                "log",
                "\(each.joined(separator: " / ")) fsyncs/s per node, "
                    + "\(BenchFormat.ratio(writesPerFsync)) writes per fsync")
            let share = bytesPerWrite / Double(settings.keyBytes + settings.valueBytes)
            let amplification =
                settings.input == nil ? " (\(BenchFormat.ratio(share)) × key and value)" : ""
            row(
                "",
                "\(BenchFormat.count(bytesPerWrite)) bytes written per write and node"
                    + amplification)
        }
        row(
            "process",
            "\(BenchFormat.ratio(cpuSecondsPerMillion)) CPU seconds per million operations, "
                + "clients included; \(BenchFormat.count(residentMegabytes)) MiB resident")
        if settings.workload != nil { row("workload", title) }
        if !splits.isEmpty {
            let counts = SplitReason.allCases.map { reason in
                (reason, splits.count { $0.reason == reason })
            }
            row(
                "splits",
                counts.filter { $0.1 > 0 }.map { "\($0.1) by \($0.0)" }.joined(separator: ", ")
                    + "; \(regionsAtEnd ?? settings.regions) regions at the end")
            row("", "from the decision until all parts serve: \(splits.serveTimes.text)")
            row("", "no write acknowledged for: \(splits.pauseTimes.text)")
            row("", "most that a write took: \(splits.heldTimes.text)")
        }
        if let disk {
            row(
                "disk",
                "\(BenchFormat.count(disk.fdatasyncPerSecond)) fdatasync/s alone (p50 "
                    + "\(BenchFormat.time(disk.fdatasyncP50Microseconds))), "
                    + "\(BenchFormat.count(disk.sequentialMegabytesPerSecond)) MB/s durable")
            if settings.mix.writes && disk.fdatasyncPerSecond > 0 {
                row(
                    "ratio",
                    "\(BenchFormat.ratio(writesPerSecond / disk.fdatasyncPerSecond)) writes per "
                        + "fdatasync of the bare disk; p50 is "
                        + "\(BenchFormat.ratio(writes.p50 / max(disk.fdatasyncP50Microseconds, 0.1)))"
                        + " × its p50")
            }
        }
        row("durability", durability)
        row("values", valuesDescription)
        if retries + unknownOutcomes + failedConditions > 0 {
            row(
                "also",
                "\(BenchFormat.count(Double(retries))) sent again, "
                    + "\(BenchFormat.count(Double(unknownOutcomes))) outcomes unknown, "
                    + "\(BenchFormat.count(Double(failedConditions))) conditions not met")
        }
        if starvedClients > 0 {
            row(
                "starved",
                "\(BenchFormat.count(Double(starvedClients))) clients waited for a leader at the end, "
                    + "the first for \(BenchFormat.time(longestStarvedMicroseconds))")
        }
        if let difference = verification.difference {
            row("WRONG", difference)
        } else {
            row("verified", verification.summary)
        }
        if settings.workload != nil || !splits.isEmpty {
            lines.append("")
            lines += TerminalPlot.lines(samples, splits: splits).map { "  " + $0 }
        }
        lines.append("")
        return lines.joined(separator: "\n")
    }

    var headline: String {
        let place =
            settings.endpoints.isEmpty
            ? "\(settings.nodes) \(settings.nodes == 1 ? "node" : "nodes"), \(settings.regions) "
                + "\(settings.regions == 1 ? "region" : "regions") (\(regionsInUse) in use), state \(settings.state.rawValue)"
            : "\(settings.endpoints.count) endpoints"
        let data =
            settings.input == nil
            ? "\(settings.keyBytes) B keys, \(settings.valueBytes) B values"
            : "keys and values from the input"
        return "\(place), \(BenchFormat.count(Double(settings.clients))) "
            + "\(settings.clientMode.rawValue) clients, \(data)"
    }

    private func latencyRow(_ name: String, _ rate: Double, _ latency: LatencySummary) -> String {
        let columns = [latency.p50, latency.p90, latency.p99, latency.p999, latency.max]
        return "  " + name.padded(to: 12) + BenchFormat.count(rate).leftPadded(to: 14)
            + columns.map { BenchFormat.time($0).leftPadded(to: 10) }.joined()
    }
}

extension String {
    fileprivate func padded(to width: Int) -> String {
        self + String(repeating: " ", count: max(0, width - count))
    }
    fileprivate func leftPadded(to width: Int) -> String {
        BenchFormat.padded(self, width)
    }
}
